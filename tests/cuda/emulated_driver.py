"""The emulated CUDA driver (driver/*.cc): built once, and chosen by environment variables.

It replaces libcuda.so.1 for the plug-in; PTX runs through the emulator of this folder.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from ctypes import CDLL, c_uint64
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from emulator.build import cache_folder, command

from handglass.runtime.devices.cuda import CUDA
from handglass.runtime.devices.cuda.kind import DRIVER_VARIABLE
from handglass.runtime.devices.plugin.build import find_compiler
from handglass.targets.codegen.cuda.architectures import images_of
from handglass.targets.codegen.cuda.nvrtc import Nvrtc

SOURCES = Path(__file__).parent / "driver"
HEADERS = ("cu13/include", "cuda_runtime/include")
"""Folders with cuda.h in the packages of CUDA 13 and 12."""
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden")
COUNTERS = (
    *("kernels", "graph_launches", "waits", "used", "allocations", "pinned", "modules", "graphs"),
    *("node_updates", "uploads"),
)


def header_folders() -> list[Path]:
    """The installed folders with cuda.h, the newest CUDA first."""
    spec = find_spec("nvidia")
    places = (
        [Path(place) for place in (spec.submodule_search_locations or ()) if spec] if spec else []
    )
    found = (place / folder for folder in HEADERS for place in places)
    return [folder for folder in found if (folder / "cuda.h").exists()]


def some_headers() -> Path:
    """A folder with cuda.h; skips the test if none is installed."""
    folders = header_folders()
    if not folders:
        pytest.skip("cuda.h is not installed: make test-cuda")
    return folders[0]


@cache
def build_driver() -> Path:
    """The library, whose name is not libcuda.so.1: NVRTC would call it."""
    sources, headers = sorted(SOURCES.iterdir()), some_headers()
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    library = cache_folder() / f"libemulated_cuda-{digest.hexdigest()[:24]}.so"
    if not library.exists():
        unfinished = library.with_suffix(f".{os.getpid()}")
        files = [str(path) for path in sources if path.suffix == ".cc"]
        compile_all = [*find_compiler(CUDA.recipe), *FLAGS, f"-I{headers}", *files, "-ldl"]
        subprocess.run([*compile_all, "-o", str(unfinished)], check=True, timeout=300)
        unfinished.rename(library)
    return library


def driver_environment(**settings: object) -> dict[str, str]:
    """The variables that select the driver; `settings` as in driver/machine.h: chips="87,90"."""
    own = {f"EMULATED_CUDA_{name.upper()}": str(value) for name, value in settings.items()}
    return {DRIVER_VARIABLE: str(build_driver()), "HANDGLASS_CUDA_EMULATOR": command(), **own}


def ptx_of(capabilities: Sequence[int], compiler: Nvrtc) -> tuple[str, ...]:
    """Replaces `images_of` of codegen/cuda/build.py where code is for the emulated driver alone.

    It runs nothing but PTX, and machine code takes NVRTC as long again.
    """
    return images_of(capabilities, compiler)[-1:]


def counters() -> dict[str, int]:
    """What the driver has counted in this process."""
    values = (c_uint64 * len(COUNTERS))()
    CDLL(str(build_driver())).emulated_counters(values)
    return dict(zip(COUNTERS, values, strict=True))


def run_child(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, with the modules of the tests."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
