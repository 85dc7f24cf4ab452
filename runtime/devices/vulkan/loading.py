"""Loads the plug-in into this process, once, after TVM's runtime."""

from __future__ import annotations

from typing import Any

from handglass.errors import DeviceError

from ...execution.process import PROCESS
from ...execution.tvm_runtime import import_tvm_ffi, installed_runtime, load_runtime
from ...system.shared_library import SharedLibrary
from .library import find_library

PLUGIN = "the Vulkan plug-in"


def load_vulkan(library: SharedLibrary | None = None) -> None:
    """Register `device_api.vulkan`, the module loader and the timer with TVM.

    Works after `import tvm`, and without it if TVM's runtime library is loaded or can be found.
    Does nothing if already called, or if TVM has its own Vulkan runtime. `library` is a prebuilt
    one, such as that of a bundle; None finds or builds one. Raises DeviceError if that fails; a
    machine without a Vulkan driver is not an error.
    """
    tvm_ffi = import_tvm_ffi()
    with PROCESS.lock:
        # A second registration of the same functions would end the process.
        if PROCESS.has(PLUGIN) or _function(tvm_ffi, "device_api.vulkan") is not None:
            return
        _need_runtime(tvm_ffi)
        PROCESS.load(PLUGIN, lambda: find_library(library))


def vulkan_function(name: str) -> Any:
    """The plug-in function "handglass.vulkan.NAME"; loads the plug-in.

    Raises DeviceError if TVM's own Vulkan runtime is loaded instead.
    """
    load_vulkan()
    function = _function(import_tvm_ffi(), f"handglass.vulkan.{name}")
    if function is None:
        raise DeviceError(f"TVM's own Vulkan runtime is loaded, which has no {name}()")
    return function


def _function(tvm_ffi: Any, name: str) -> Any:
    return tvm_ffi.get_global_func(name, allow_missing=True)


def _need_runtime(tvm_ffi: Any) -> None:
    """Load TVM's runtime with RTLD_GLOBAL unless it is loaded: the plug-in uses its symbols."""
    if _function(tvm_ffi, "runtime.GetDeviceAttr") is not None:
        return
    load_runtime(_locate)


def _locate() -> SharedLibrary:
    path = installed_runtime()
    if path is None:
        raise DeviceError("Vulkan needs TVM's runtime: install apache-tvm, or load a bundle first")
    return SharedLibrary(path)
