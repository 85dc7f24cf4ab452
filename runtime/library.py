"""Loads TVM's small runtime and a bundle's compiled library: numpy and tvm_ffi, no tvm package.

The runtime is looked for in the bundle, then in an installed apache-tvm, which is located but not
imported: its Python package would bring the 259 MB compiler with it.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from handglass.errors import DeviceError, MismatchError

from .bundle import LIBRARY, RUNTIME_LIBRARY, Bundle
from .heap import keep_freed_memory
from .machine import check_target, this_machine, thread_count
from .tiles import allow_tiles

_CPU, _CPU_ID = 1, 0  # device type, device
# Allocator 1 gives memory back after each call. 2 pools it by exact size, so that every new length
# of a prompt leaves another set of buffers behind: 70 MB became 266 MB over 70 lengths.
_UNPOOLED = 1

# One per process: its registry of global functions is shared by everything that links it.
_runtime: ctypes.CDLL | None = None


def load_library(bundle: Bundle, threads: int | None = None) -> Any:
    """The bundle's virtual machine, ready to be asked for functions by name."""
    check_target(bundle.manifest.target, *this_machine())
    allow_tiles(bundle.manifest.target)
    count = thread_count(threads)
    tvm_ffi = import_tvm_ffi()
    _check_version(bundle, "tvm_ffi", tvm_ffi.__version__)
    keep_freed_memory()
    os.environ["TVM_NUM_THREADS"] = str(count)  # read once, when the pool starts
    with _affinity_kept():
        _load_runtime(bundle)
        _set_threads(tvm_ffi, count, threads)
    path = bundle.file(LIBRARY).resolve()
    try:
        machine = _open_library(tvm_ffi, path)["vm_load_executable"]()
        machine["vm_initialization"](_CPU, _CPU_ID, _UNPOOLED)
    except (AttributeError, RuntimeError, OSError) as error:
        raise MismatchError(f"{path}: cannot be loaded: {_first_line(error)}") from error
    return machine


def _open_library(tvm_ffi: Any, path: Path) -> Any:
    """dlopen goes by the name: of a file replaced under a name it knows it would return the old.

    A link with a name of its own makes it look at the file, and share it only if it is the same.
    """
    with TemporaryDirectory(prefix="handglass-") as folder:
        link = Path(folder, path.name)
        link.symlink_to(path)
        return tvm_ffi.load_module(str(link))


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
            f"tvm_ffi cannot be imported ({_first_line(error)}); "
            "install apache-tvm-ffi==0.1.14.post1"
        ) from error
    finally:
        if hidden:
            del sys.modules["torch"]
    return tvm_ffi


def find_runtime(bundle: Bundle) -> Path:
    """Where libtvm_runtime.so is; in the bundle it was hashed when the bundle was opened."""
    if RUNTIME_LIBRARY in bundle.manifest.files:
        return bundle.file(RUNTIME_LIBRARY).resolve()
    spec = importlib.util.find_spec("tvm")  # of a top-level package: finds, does not import
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in (Path(folder, "lib", RUNTIME_LIBRARY), Path(folder, RUNTIME_LIBRARY)):
            if file.exists():
                _check_version(bundle, "tvm", _installed_version("apache-tvm"))
                return file
    raise DeviceError(
        f"{RUNTIME_LIBRARY} is neither in the bundle nor in an installed apache-tvm; "
        "pip install apache-tvm==0.27.0.post1 --no-deps, or compile with the runtime included"
    )


def _load_runtime(bundle: Bundle) -> None:
    global _runtime
    tvm = sys.modules.get("tvm")
    if tvm is not None:
        _check_version(bundle, "tvm", tvm.__version__)
        return
    if _runtime is not None:
        return
    path = find_runtime(bundle)
    try:
        _runtime = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise DeviceError(f"{path}: cannot be loaded: {_first_line(error)}") from error


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


def _check_version(bundle: Bundle, package: str, installed: str) -> None:
    """Bytecode and calling convention may change with a minor release, not with a patch."""
    wanted = bundle.manifest.versions.get(package, installed)
    if wanted.split(".")[:2] != installed.split(".")[:2]:
        raise MismatchError(
            f"{bundle.path}: compiled with {package} {wanted}, installed is {installed}; "
            "install that version or compile again"
        )


def _installed_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise DeviceError(f"{package} is present but its version is unknown") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
