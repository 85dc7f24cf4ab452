"""Loads TVM's runtime library with numpy and tvm_ffi alone, without the tvm package.

An installed apache-tvm is located but not imported: its Python package would load the 259 MB
compiler.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handglass.errors import DeviceError

from ..bundle.manifest import RUNTIME_LIBRARY
from ..system.heap import keep_freed_memory
from ..system.machine import thread_count
from ..system.packages import package_folders
from .process import PROCESS, RUNTIME, first_line


def start_runtime(locate: Callable[[], Path], threads: int | None = None) -> Any:
    """Load TVM's runtime and start its thread pool; returns tvm_ffi.

    `locate` returns the path of libtvm_runtime.so; it is called only if none is loaded yet.
    `threads`: None uses one per physical core. Raises DeviceError, or UsageError for `threads`.
    """
    count = thread_count(threads)
    tvm_ffi = import_tvm_ffi()
    keep_freed_memory()
    os.environ["TVM_NUM_THREADS"] = str(count)  # read once, when the pool starts
    with _affinity_kept():
        load_runtime(locate)
        _set_threads(tvm_ffi, count, threads)
    return tvm_ffi


def installed_runtime() -> Path | None:
    """The runtime library of an installed apache-tvm, or None."""
    for folder in package_folders("apache-tvm"):
        for file in (folder / "lib" / RUNTIME_LIBRARY, folder / RUNTIME_LIBRARY):
            if file.exists():
                return file
    return None


def import_tvm_ffi() -> Any:
    """Import tvm_ffi without torch, which it would import if installed (2 s and 190 MB).

    A None in `sys.modules` makes a module unimportable in Python; it is removed right after, and a
    torch that is already loaded is kept. Raises DeviceError if tvm_ffi cannot be imported.
    """
    hidden = "torch" not in sys.modules and "tvm_ffi" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tvm_ffi
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"tvm_ffi cannot be imported ({first_line(error)}); "
            "install apache-tvm-ffi==0.1.14.post1"
        ) from error
    finally:
        if hidden:
            del sys.modules["torch"]
    return tvm_ffi


def load_runtime(locate: Callable[[], Path]) -> None:
    """Load TVM's runtime library with RTLD_GLOBAL, unless this process has one.

    Everything that links to it shares its registry of functions. `locate` is called only if needed.
    """
    if sys.modules.get("tvm") is None:
        PROCESS.load(RUNTIME, locate, ctypes.RTLD_GLOBAL)


def _set_threads(tvm_ffi: Any, count: int, requested: int | None) -> None:
    """Resize the pool. A running pool can only shrink; raises DeviceError if it must grow."""
    running = tvm_ffi.get_global_func("runtime.NumThreads")  # starts the pool
    if running() == count or requested is None:
        return
    tvm_ffi.get_global_func("runtime.config_threadpool")(1, count)
    if running() != count:
        raise DeviceError(
            f"threads={count}: the thread pool of this process has {running()} threads and cannot "
            "grow; use a new process"
        )


@contextmanager
def _affinity_kept() -> Iterator[None]:
    """Restore the CPU affinity: a pool of one thread pins its caller to the first core, and with it
    all child processes and later sessions, which would find only one usable CPU."""
    if not hasattr(os, "sched_getaffinity"):
        yield
        return
    cpus = os.sched_getaffinity(0)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)
