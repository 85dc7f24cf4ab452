"""Calls kernels of `vulkan_shaders` on vulkan:0; as a program, many times in one process.

python vulkan_calls.py ROUNDS      prints the final statistics as JSON
"""

import ctypes
import json
import sys
from typing import Any

import numpy as np
from vulkan_shaders import Kernel, axpy, pack_module

from handglass.runtime.devices.vulkan import load_vulkan, vulkan_statistics
from handglass.runtime.execution.tvm_runtime import import_tvm_ffi

VULKAN = 7  # DLDeviceType


def function(name: str) -> Any:
    load_vulkan()
    return import_tvm_ffi().get_global_func(name)


def load(*kernels: Kernel) -> Any:
    return function("ffi.Module.load_from_bytes.vulkan")(pack_module(*kernels))


def device(index: int = 0) -> Any:
    return import_tvm_ffi().device("vulkan", index)


def on_device(array: np.ndarray) -> Any:
    ffi = import_tvm_ffi()
    tensor = empty(array.shape, array.dtype.name)
    host = np.ascontiguousarray(array)
    function("runtime.TVMTensorCopyFromBytes")(
        tensor, ctypes.c_void_p(host.ctypes.data), host.nbytes
    )
    assert isinstance(tensor, ffi.Tensor)
    return tensor


def empty(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    ffi = import_tvm_ffi()
    allocate = function("runtime.TVMTensorAllocWithScope")
    return allocate(ffi.Shape(shape), ffi.dtype(dtype), device(), None)


def on_host(tensor: Any) -> np.ndarray:
    host = np.empty(tuple(tensor.shape), str(tensor.dtype))
    function("runtime.TVMTensorCopyToBytes")(tensor, ctypes.c_void_p(host.ctypes.data), host.nbytes)
    return host


def handle(tensor: Any, offset: int = 0) -> ctypes.c_void_p:
    """DLTensor.data plus `offset`, as compiled host code passes it."""
    capsule = tensor.__dlpack__()
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    data = ctypes.c_void_p.from_address(pointer(capsule, b"dltensor")).value
    assert data is not None
    return ctypes.c_void_p(data + offset)


def call(kernel: Any, x: Any, y: Any, alpha: float, n: int, *extra: int) -> None:
    kernel(handle(x), handle(y), alpha, *extra, n, (n + 63) // 64, 64)


def main(rounds: int) -> None:
    module = load(axpy(), axpy("uniform", uniform=True, extra_scalars=20))
    rng = np.random.default_rng(1)
    y = on_device(np.zeros(1000, np.float32))
    expected = np.zeros(1000, np.float64)
    for i in range(rounds):
        x = rng.standard_normal(1000).astype(np.float32)
        if i % 2:
            call(module["uniform"], on_device(x), y, 0.5, 999, *range(20))
        else:
            call(module["axpy"], on_device(x), y, 0.5, 999)  # x is freed while the call is recorded
        expected[:999] += 0.5 * x[:999]
    np.testing.assert_allclose(on_host(y), expected, rtol=1e-4, atol=1e-4)
    print(json.dumps(vulkan_statistics()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
