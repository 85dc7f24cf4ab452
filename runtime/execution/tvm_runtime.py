"""Loads TVM's runtime library with numpy and tvm_ffi alone, without the tvm package.

An installed apache-tvm is located but not imported: its Python package would load the 259 MB
compiler.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from handglass.errors import DeviceError

from ..bundle.manifest import RUNTIME_LIBRARY
from ..system.heap import keep_freed_memory
from ..system.packages import package_folders, without_torch
from ..system.sealed_copy import load_library
from ..system.shared_library import SharedLibrary
from .process import PROCESS, RUNTIME, first_line


def start_runtime(locate: Callable[[], SharedLibrary]) -> Any:
    """Load TVM's runtime; returns tvm_ffi.

    `locate` returns libtvm_runtime.so; it is called only if none is loaded yet. Raises
    DeviceError.
    """
    tvm_ffi = import_tvm_ffi()
    keep_freed_memory()
    # Libraries bring their own pool (thread_pool.py). TVM's must not pin threads if one starts it.
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    load_runtime(locate)
    return tvm_ffi


def load_module(tvm_ffi: Any, library: SharedLibrary) -> Any:
    """The module of a library, loaded for good; see sealed_copy.py for what it raises."""
    # tvm_ffi.load_module wants a name in .so, which a copy in memory has not.
    load = tvm_ffi.get_global_func("ffi.Module.load_from_file.so")
    module = load_library(library, lambda path: load(path, "so"))
    tvm_ffi.get_global_func("ffi.ModuleGlobalsAdd")(module)
    return module


def installed_runtime() -> Path | None:
    """The runtime library of an installed apache-tvm, or None."""
    for folder in package_folders("apache-tvm"):
        for file in (folder / "lib" / RUNTIME_LIBRARY, folder / RUNTIME_LIBRARY):
            if file.exists():
                return file
    return None


def import_tvm_ffi() -> Any:
    """Import tvm_ffi without torch. Raises DeviceError if it cannot be imported."""
    if "tvm_ffi" in sys.modules:
        return sys.modules["tvm_ffi"]
    try:
        with without_torch():
            import tvm_ffi
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"tvm_ffi cannot be imported ({first_line(error)}); "
            "install apache-tvm-ffi==0.1.14.post1"
        ) from error
    return tvm_ffi


def load_runtime(locate: Callable[[], SharedLibrary]) -> None:
    """Load TVM's runtime library with RTLD_GLOBAL, unless this process has one.

    Everything that links to it shares its registry of functions. `locate` is called only if needed.
    """
    if sys.modules.get("tvm") is None:
        PROCESS.load(RUNTIME, locate, ctypes.RTLD_GLOBAL)
