"""Loads the library into this process, once, behind TVM's runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handglass.errors import DeviceError

from ...execution.process import PROCESS
from ...execution.tvm_runtime import import_tvm_ffi, installed_runtime, load_runtime
from .library import find_library

PLUGIN = "the Vulkan plug-in"


def load_vulkan(library: Path | None = None) -> None:
    """Makes `device_api.vulkan`, the module loader and the timer known to TVM.

    Works behind `import tvm` and without it, where TVM's runtime library was loaded or can be
    found. Does nothing where it was done already, or where TVM brings its own Vulkan. `library` is
    a file built elsewhere (a bundle's); by default the package's, the cache's or a new one.
    DeviceError in words where that fails; a machine without a Vulkan driver is no failure here.
    """
    tvm_ffi = import_tvm_ffi()
    with PROCESS.lock:
        # A second registration of the same functions would end the process.
        if PROCESS.has(PLUGIN) or _function(tvm_ffi, "device_api.vulkan") is not None:
            return
        _need_runtime(tvm_ffi)
        PROCESS.load(PLUGIN, lambda: find_library(library))


def vulkan_function(name: str) -> Any:
    """A function of ours, by its name after "handglass.vulkan."; loads the library.

    DeviceError where TVM's own Vulkan is in its place.
    """
    load_vulkan()
    function = _function(import_tvm_ffi(), f"handglass.vulkan.{name}")
    if function is None:
        raise DeviceError(f"TVM's own Vulkan runtime is loaded: it has no {name}()")
    return function


def _function(tvm_ffi: Any, name: str) -> Any:
    return tvm_ffi.get_global_func(name, allow_missing=True)


def _need_runtime(tvm_ffi: Any) -> None:
    """The library's symbols are those of a runtime that is loaded for all (RTLD_GLOBAL)."""
    if _function(tvm_ffi, "runtime.GetDeviceAttr") is not None:
        return
    load_runtime(_locate)


def _locate() -> Path:
    path = installed_runtime()
    if path is None:
        raise DeviceError("Vulkan needs TVM's runtime: install apache-tvm, or load a bundle first")
    return path
