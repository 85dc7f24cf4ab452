"""Calls into a plug-in as TVM's runtime makes them: tensors on a device, kernels of a module."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from handglass.runtime.devices.plugin.loading import Plugin
from handglass.runtime.execution.tvm_runtime import import_tvm_ffi


class PluginCalls:
    """Calls into one plug-in, which the first of them loads."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self._kind = plugin.recipe.kind

    def function(self, name: str) -> Any:
        """A global function of TVM's runtime or of the plug-in."""
        self._plugin.load()
        return import_tvm_ffi().get_global_func(name)

    def load(self, module: bytes) -> Any:
        return self.function(f"ffi.Module.load_from_bytes.{self._kind}")(module)

    def device(self, index: int = 0) -> Any:
        return import_tvm_ffi().device(self._kind, index)

    def empty(self, shape: tuple[int, ...], dtype: str = "float32", index: int = 0) -> Any:
        ffi = import_tvm_ffi()
        allocate = self.function("runtime.TVMTensorAllocWithScope")
        return allocate(ffi.Shape(shape), ffi.dtype(dtype), self.device(index), None)

    def on_device(self, array: np.ndarray, index: int = 0) -> Any:
        tensor = self.empty(array.shape, array.dtype.name, index)
        self.write(tensor, array)
        return tensor

    def write(self, tensor: Any, array: np.ndarray) -> None:
        host = np.ascontiguousarray(array)
        write = self.function(f"handglass.{self._kind}.write")
        write(tensor, ctypes.c_void_p(host.ctypes.data), host.nbytes)

    def on_host(self, tensor: Any) -> np.ndarray:
        host = np.empty(tuple(tensor.shape), str(tensor.dtype))
        read = self.function(f"handglass.{self._kind}.read")
        read(tensor, ctypes.c_void_p(host.ctypes.data), host.nbytes)
        return host

    def wait(self, index: int = 0) -> None:
        self.function("runtime.Device_StreamSync")(self.device(index), 0)


def handle(tensor: Any, offset: int = 0) -> ctypes.c_void_p:
    """DLTensor.data plus `offset`, as compiled host code passes it."""
    capsule = tensor.__dlpack__()
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    data = ctypes.c_void_p.from_address(pointer(capsule, b"dltensor")).value
    assert data is not None
    return ctypes.c_void_p(data + offset)
