"""TVM's small runtime in this process: numpy and tvm_ffi, no tvm package.

An installed apache-tvm is located and not imported: its Python package would bring the 259 MB
compiler with it.
"""

from __future__ import annotations

import ctypes
import importlib.util
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
from .process import PROCESS, RUNTIME, first_line


def start_runtime(locate: Callable[[], Path], threads: int | None = None) -> Any:
    """tvm_ffi, once TVM's runtime is loaded and its pool of threads runs.

    `locate` says where libtvm_runtime.so is; it is asked only if this process has none yet.
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
    """Where an installed apache-tvm keeps its runtime library."""
    spec = importlib.util.find_spec("tvm")  # of a top-level package: finds, does not import
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in (Path(folder, "lib", RUNTIME_LIBRARY), Path(folder, RUNTIME_LIBRARY)):
            if file.exists():
                return file
    return None


def import_tvm_ffi() -> Any:
    """tvm_ffi without torch: where torch is installed it would import it, for 2 s and 190 MB.

    A None in `sys.modules` is Python's own way to say "not importable"; it is taken back at once,
    and a torch that is loaded already stays.
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
    """TVM's runtime library, for all that link to it: its registry of functions is one per process.

    `locate` is asked only if this process has none.
    """
    if sys.modules.get("tvm") is None:
        PROCESS.load(RUNTIME, locate, ctypes.RTLD_GLOBAL)


def _set_threads(tvm_ffi: Any, count: int, asked: int | None) -> None:
    """A pool that runs already can only shrink; say so when more was asked for."""
    running = tvm_ffi.get_global_func("runtime.NumThreads")  # starts the pool
    if running() == count or asked is None:
        return
    tvm_ffi.get_global_func("runtime.config_threadpool")(1, count)
    if running() != count:
        raise DeviceError(
            f"threads={count}: this process started with {running()}; use a new process"
        )


@contextmanager
def _affinity_kept() -> Iterator[None]:
    """A pool of one thread binds its caller to the first core, and with it all child processes
    and the next session, which would then find one usable CPU: take that back."""
    if not hasattr(os, "sched_getaffinity"):
        yield
        return
    cpus = os.sched_getaffinity(0)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)
