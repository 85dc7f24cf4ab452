"""C++ of kernels to a shared object: an object per kernel, cached by the hash of its source."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .translate import translate

HERE = Path(__file__).parent
HEADERS = ("lanes.h", "arithmetic.h", "bits.h", "convert.h", "machine.h", "matrix.h")
MACHINE = ("memory.cc", "counts.cc", "copies.cc", "warps.cc", "launch.cc")
COMPILER = os.environ.get("CXX", "g++")
FLAGS = (
    *("-std=c++20", "-O1", "-ftree-vectorize", "-march=native", "-fPIC", "-w"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
    "-fwrapv",
)
"""Kernels run as fast as with -O2, which compiles for half as long again."""


def command() -> str:
    """A shell's command that makes a shared object of a PTX file, its last argument."""
    return f"PYTHONPATH={shlex.quote(str(HERE.parent))} {shlex.quote(sys.executable)} -m emulator"


def cache_folder() -> Path:
    """A folder of this user alone; HANDGLASS_CUDA_EMULATOR_CACHE names another."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    chosen = os.environ.get("HANDGLASS_CUDA_EMULATOR_CACHE")
    folder = Path(chosen or f"{base}/handglass/cuda-emulator")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
        raise PermissionError(f"{folder}: must belong to this user, and not be writable by others")
    return folder


def build(ptx: str) -> Path:
    """The shared object with `launch_NAME` and `layout_NAME` of each kernel of a PTX text."""
    folder, sources = cache_folder(), translate(ptx)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        machine = pool.map(lambda n: _object(folder, (HERE / n).read_text("utf-8")), MACHINE)
        kernels = pool.map(lambda text: _object(folder, text), sources.values())
        objects = [*machine, *kernels]
    names = [str(o) for o in objects]
    library = folder / f"{_hash(*names)}.so"
    if not library.exists():
        _made(library, [COMPILER, "-shared", "-s", *names])
    return library


def _hash(*texts: str) -> str:
    found = hashlib.sha256(" ".join((COMPILER, *FLAGS, _cpu())).encode())
    for text in texts:
        found.update(text.encode() + b"\0")
    return found.hexdigest()[:24]


def _cpu() -> str:
    """What -march=native depends on: a folder may be shared by machines."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _object(folder: Path, source: str) -> Path:
    headers = [(HERE / name).read_text("utf-8") for name in HEADERS]
    path = folder / f"{_hash(source, *headers)}.o"
    if not path.exists():
        _made(path, [COMPILER, *FLAGS, f"-I{HERE}", "-c", "-x", "c++", "-"], source)
    return path


def _made(path: Path, command: Sequence[str], source: str = "") -> None:
    """Run a compiler; others never see a file that is not complete."""
    unfinished = path.with_name(f"{path.stem}-{os.getpid()}.part")
    command = [*command, "-o", str(unfinished)]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{path}: {COMPILER} failed: {done.stderr[:2000]}")
    unfinished.rename(path)
