"""Loads a plug-in into this process, once, after TVM's runtime, and asks it about devices."""

from __future__ import annotations

import json
from typing import Any

from handglass.errors import DeviceError

from ...execution.process import PROCESS
from ...execution.tvm_runtime import import_tvm_ffi, installed_runtime, load_runtime
from ...system.shared_library import SharedLibrary
from .library import find_library
from .recipe import Recipe


class Plugin:
    """The plug-in of one kind; it registers `device_api.KIND` and `handglass.KIND.*`."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._name = f"the {recipe.label} plug-in"

    def load(self, library: SharedLibrary | None = None) -> None:
        """Register the device API, the module loader and the timer with TVM.

        Works after `import tvm`, and without it if TVM's runtime library is loaded or can be found.
        Does nothing if already called, or if TVM has its own runtime for the kind that reads the
        same modules. `library` is a prebuilt one, such as that of a bundle; None finds or builds
        one. Raises DeviceError if that fails; a machine without a driver is not an error.
        """
        tvm_ffi = import_tvm_ffi()
        with PROCESS.lock:
            registered = _function(tvm_ffi, f"device_api.{self.recipe.kind}") is not None
            if PROCESS.has(self._name) or (registered and not self.recipe.own_format):
                return
            self._need_runtime(tvm_ffi)
            PROCESS.load(self._name, lambda: find_library(self.recipe, library))

    def function(self, name: str) -> Any:
        """The function "handglass.KIND.NAME"; loads the plug-in.

        Raises DeviceError if TVM's own runtime for the kind is loaded instead.
        """
        self.load()
        function = _function(import_tvm_ffi(), f"handglass.{self.recipe.kind}.{name}")
        if function is None:
            raise DeviceError(
                f"TVM's own {self.recipe.label} runtime is loaded, which has no {name}()"
            )
        return function

    def ask(self, name: str, *arguments: int) -> dict[str, Any]:
        """The JSON object that a function of the plug-in returns. Raises DeviceError."""
        function = self.function(name)
        try:
            answer: dict[str, Any] = json.loads(function(*arguments))
        except RuntimeError as error:
            raise DeviceError(str(error).strip()) from error
        return answer

    def _need_runtime(self, tvm_ffi: Any) -> None:
        """Load TVM's runtime with RTLD_GLOBAL unless it is loaded: the plug-in uses its symbols."""
        if _function(tvm_ffi, "runtime.GetDeviceAttr") is None:
            load_runtime(self._locate)

    def _locate(self) -> SharedLibrary:
        path = installed_runtime()
        if path is None:
            raise DeviceError(
                f"{self.recipe.label} needs TVM's runtime: install apache-tvm, or load a bundle "
                "first"
            )
        return SharedLibrary(path)


def _function(tvm_ffi: Any, name: str) -> Any:
    return tvm_ffi.get_global_func(name, allow_missing=True)
