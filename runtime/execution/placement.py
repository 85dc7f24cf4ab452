"""Where tensors live: in this process's memory, or in that of a device.

A session asks its placement to take arrays in and to give arrays back, and never looks where they
are. On the CPU both are views of the same memory; on a GPU they are copies, in one place: here.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from handglass.errors import DeviceError

from ..bundle.tensors import aligned, aligned_empty, untouched_zeros
from .clocks import Clock, DeviceClock, HostClock, WaitingClock
from .tvm_runtime import import_tvm_ffi

_CPU = 1  # DLPack's kDLCPU
# Allocator 1 gives memory back after each call. 2 pools it by exact size, so that every new length
# of a prompt leaves another set of buffers behind: 70 MB became 266 MB over 70 lengths.
_UNPOOLED = 1
_HINTS = {
    "out of memory": "close what else uses the device, or compile with fewer bits, a smaller "
    "--context or --kv-cache int8",
    "device lost": "the driver gave up on it; start again, and if it stays so, see what 'handglass "
    "doctor BUNDLE --device ...' says",
}
"""What to do about errors that begin like this."""


class Placement(Protocol):
    @property
    def machine_devices(self) -> tuple[int, ...]:
        """What the virtual machine is told at its start: (device type, number, allocator) each."""
        ...

    @property
    def copies(self) -> bool:
        """Whether a tensor's memory is another one than that of the array it came from."""
        ...

    def put(self, array: np.ndarray) -> Any:
        """A tensor with these values."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A tensor to be written to."""
        ...

    def write(self, tensor: Any, array: np.ndarray) -> None:
        """Replace the values of a tensor of the same shape and type."""
        ...

    def view(self, tensor: Any) -> np.ndarray:
        """The values, once whatever writes them is done; on the CPU the memory itself."""
        ...

    def wait(self) -> None:
        """Return when everything that was started has ended."""
        ...

    def clock(self) -> Clock:
        """For the time of kernels."""
        ...

    def translate_error(self, error: Exception) -> Exception:
        """An error of the runtime as one of ours, if it is about this memory or its device."""
        ...

    def peak_bytes(self) -> int | None:
        """The most of the device's own memory that this process ever held; None: it has none."""
        ...


class Host:
    """The memory that numpy knows."""

    machine_devices = (_CPU, 0, _UNPOOLED)
    copies = False

    def __init__(self) -> None:
        self._from_dlpack = import_tvm_ffi().from_dlpack

    def put(self, array: np.ndarray) -> Any:
        return self._from_dlpack(aligned(array))

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self._from_dlpack(untouched_zeros(shape, dtype))

    def write(self, tensor: Any, array: np.ndarray) -> None:
        # Not through numpy: before 2.1 it took what came by DLPack for read-only.
        data = np.ascontiguousarray(array)
        ctypes.memmove(tensor.data_ptr(), data.ctypes.data, data.nbytes)

    def view(self, tensor: Any) -> np.ndarray:
        return np.from_dlpack(tensor)

    def wait(self) -> None:
        """A call on the CPU returns when it is done."""

    def clock(self) -> Clock:
        return HostClock()

    def translate_error(self, error: Exception) -> Exception:
        return error

    def peak_bytes(self) -> int | None:
        return None


class DeviceMemory:
    """The memory of one device that is not the CPU.

    `kind` is the name of its sort, `dlpack` DLPack's number of that, `number` its place. What a
    plug-in of ours adds (time stamps, statistics) is used where it is there; a kind of devices that
    has other means overrides `clock`, `peak_bytes` or `translate_error`.
    """

    copies = True

    def __init__(self, kind: str, dlpack: int, number: int) -> None:
        ffi = import_tvm_ffi()
        self._shape, self._dtype = ffi.Shape, ffi.dtype
        self._kind, self._number = kind, number
        self._device = ffi.device(dlpack, number)
        self._allocate = ffi.get_global_func("runtime.TVMTensorAllocWithScope")
        self._up = ffi.get_global_func("runtime.TVMTensorCopyFromBytes")
        self._down = ffi.get_global_func("runtime.TVMTensorCopyToBytes")
        self._wait = ffi.get_global_func("runtime.Device_StreamSync")
        host = Host.machine_devices  # sizes are computed there; it has to be the last one
        self.machine_devices = (dlpack, number, _UNPOOLED, *host)

    def put(self, array: np.ndarray) -> Any:
        tensor = self._empty(array.shape, array.dtype.name)
        self.write(tensor, array)
        return tensor

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        tensor = self._empty(shape, dtype)
        self.write(tensor, untouched_zeros(shape, dtype))  # all of it one page that is never taken
        return tensor

    def write(self, tensor: Any, array: np.ndarray) -> None:
        if array.nbytes:
            data = np.ascontiguousarray(array)
            self._do(self._up, tensor, ctypes.c_void_p(data.ctypes.data), data.nbytes)

    def view(self, tensor: Any) -> np.ndarray:
        array = aligned_empty(tuple(tensor.shape), str(tensor.dtype))
        if array.nbytes:
            self._do(self._down, tensor, ctypes.c_void_p(array.ctypes.data), array.nbytes)
        return array

    def wait(self) -> None:
        self._do(self._wait, self._device, 0)

    def clock(self) -> Clock:
        stamp, stamps = self._own("stamp"), self._own("stamps")
        return (
            WaitingClock(self.wait) if stamp is None else DeviceClock(self._number, stamp, stamps)
        )

    def translate_error(self, error: Exception) -> Exception:
        words = str(error).strip()
        if not words.startswith(f"{self._kind}: "):
            return error
        hints = [hint for start, hint in _HINTS.items() if f"{self._kind}: {start}" in words]
        return DeviceError("; ".join([words.splitlines()[0], *hints]))

    def peak_bytes(self) -> int | None:
        told = self._own("statistics")
        return None if told is None else int(json.loads(told(self._number))["peak_bytes"])

    def _own(self, name: str) -> Any:
        """A function of our plug-in; None where TVM's own is in its place."""
        full = f"handglass.{self._kind}.{name}"
        return import_tvm_ffi().get_global_func(full, allow_missing=True)

    def _empty(self, shape: Sequence[int], dtype: str) -> Any:
        size, kind = self._shape(shape), self._dtype(dtype)
        return self._do(self._allocate, size, kind, self._device, None)

    def _do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except RuntimeError as error:
            raise self.translate_error(error) from error
