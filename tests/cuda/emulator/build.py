"""Kernels of a PTX file to shared objects, one each, made when a kernel is first needed.

They are cached by the hash of the PTX, of this folder's files and of the compiler's flags. Several
processes may ask for the same kernel: each makes a file of its own and renames it when complete.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from .translate import translate

HERE = Path(__file__).parent
MACHINE = ("memory.cc", "counts.cc", "copies.cc", "warps.cc", "launch.cc")
COMPILER = os.environ.get("CXX", "g++")
FLAGS = (
    *("-std=c++20", "-O1", "-ftree-vectorize", "-march=native", "-fPIC", "-w"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
    "-fwrapv",
)
"""Kernels run as fast as with -O2, which compiles for half as long again."""
MOST_SECONDS = 600
"""Processor time for one kernel: the longest of a model took a tenth."""
MOST_MEMORY = 4 << 30
"""Bytes of the compiler's address space."""


def command() -> str:
    """A shell's command for this package; its arguments are those of `__main__`."""
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


def keep(ptx: str) -> Path:
    """Put a PTX text into the cache. Returns its path, from which those of its kernels follow."""
    path = cache_folder() / f"{_hash(ptx)}.ptx"
    if not path.exists():
        unfinished = _unfinished(path)
        unfinished.write_text(ptx, "utf-8")
        unfinished.rename(path)
    return path


def library_of(kept: Path, kernel: str) -> Path:
    """Where the shared object of a kernel is, or will be. The emulated driver knows this, too."""
    return kept.with_name(f"{kept.stem}-{kernel}.so")


def build(kept: Path, kernel: str) -> Path:
    """The shared object with `launch_NAME` and `layout_NAME` of a kernel of a kept PTX text.

    Raises PtxError for unknown PTX, RuntimeError if the compiler fails or exceeds its limits.
    """
    library = library_of(kept, kernel)
    if not library.exists():
        (source,) = translate(kept.read_text("utf-8"), kernel).values()
        machine = [str(_machine_object(name)) for name in MACHINE]
        compile_it = [*("-shared", "-s", f"-I{HERE}", "-x", "c++", "-"), *("-x", "none", *machine)]
        _make(library, [COMPILER, *FLAGS, *compile_it], source)
    return library


def _machine_object(name: str) -> Path:
    """What all kernels share, compiled once."""
    path = cache_folder() / f"{_hash(name)}.o"
    if not path.exists():
        _make(path, [COMPILER, *FLAGS, "-c", str(HERE / name)])
    return path


def _hash(text: str) -> str:
    return hashlib.sha256(_environment() + text.encode()).hexdigest()[:24]


@cache
def _environment() -> bytes:
    """Everything that a shared object depends on, but for its PTX."""
    files = sorted(path for path in HERE.iterdir() if path.suffix in (".py", ".h", ".cc"))
    found = hashlib.sha256(" ".join((COMPILER, *FLAGS, _cpu())).encode())
    for path in files:
        found.update(path.read_bytes() + b"\0")
    return found.digest()


def _cpu() -> str:
    """What -march=native depends on: a folder may be shared by machines."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _unfinished(path: Path) -> Path:
    """Others never see a file that is not complete."""
    return path.with_name(f"{path.stem}-{os.getpid()}.part")


def _make(path: Path, command: Sequence[str], source: str = "") -> None:
    """Run a compiler, which gets limits of time and memory."""
    unfinished = _unfinished(path)
    done = subprocess.run(
        [*command, "-o", str(unfinished)],
        input=source,
        capture_output=True,
        text=True,
        preexec_fn=_limit,
    )
    if done.returncode:
        unfinished.unlink(missing_ok=True)
        why = done.stderr[:2000] or f"exit status {done.returncode}"
        raise RuntimeError(f"{path}: {COMPILER} failed: {why}")
    unfinished.rename(path)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
