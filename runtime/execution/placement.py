"""Placement of tensors: in host memory, or in the memory of a device.

A session converts between arrays and tensors only through its placement. On the CPU both are views
of the same memory; on a GPU the placement copies.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np

from handglass.errors import DeviceError

from ..bundle.tensors import aligned, aligned_empty, untouched_zeros
from .clocks import Clock, DeviceClock, HostClock, WaitingClock
from .tvm_runtime import import_tvm_ffi

_CPU = 1  # DLPack's kDLCPU
# Allocator 1 frees memory after each call. Allocator 2 pools it by exact size, so every new prompt
# length keeps another set of buffers: 70 MB became 266 MB over 70 lengths.
_UNPOOLED = 1
_FULL, _LOST = "out of memory", "device lost"
"""Words with which errors begin, for which there is advice."""
_IF_LOST = (
    "the driver has reset or removed the device; start again, and if this persists, "
    "run 'handglass doctor BUNDLE --device ...'"
)


class Placement(Protocol):
    @property
    def machine_devices(self) -> tuple[int, ...]:
        """Arguments of vm_initialization: (device type, number, allocator) per device."""
        ...

    @property
    def copies(self) -> bool:
        """Whether tensors and arrays have separate memory, so that conversion copies."""
        ...

    def put(self, array: np.ndarray) -> Any:
        """A tensor with these values."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A zero tensor that may be written."""
        ...

    def write(self, tensor: Any, array: np.ndarray) -> None:
        """Replace the values of a tensor of the same shape and dtype."""
        ...

    def view(self, tensor: Any) -> np.ndarray:
        """The values, after pending writes: on the CPU a view of the memory, else a copy."""
        ...

    def wait(self) -> None:
        """Return when all started work has finished."""
        ...

    def repeated(self) -> AbstractContextManager[object]:
        """A reusable context for a call that is repeated: the device may start its kernels as one.

        Nothing may be read inside of it.
        """
        ...

    def clock(self) -> Clock:
        """A clock for kernel times."""
        ...

    def translate_error(self, error: Exception) -> Exception:
        """The DeviceError for a runtime error about this device; other errors are returned."""
        ...

    def peak_bytes(self) -> int | None:
        """Peak bytes of device memory held by this process; None without device memory."""
        ...


class Host:
    """Host memory, shared with numpy."""

    machine_devices = (_CPU, 0, _UNPOOLED)
    copies = False

    def __init__(self) -> None:
        self._from_dlpack = import_tvm_ffi().from_dlpack

    def put(self, array: np.ndarray) -> Any:
        return self._from_dlpack(aligned(array))

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self._from_dlpack(untouched_zeros(shape, dtype))

    def write(self, tensor: Any, array: np.ndarray) -> None:
        # Not through numpy: before 2.1 it treats DLPack arrays as read-only.
        data = np.ascontiguousarray(array)
        ctypes.memmove(tensor.data_ptr(), data.ctypes.data, data.nbytes)

    def view(self, tensor: Any) -> np.ndarray:
        return np.from_dlpack(tensor)

    def wait(self) -> None:
        """Does nothing: calls on the CPU are synchronous."""

    def repeated(self) -> AbstractContextManager[object]:
        return nullcontext()

    def clock(self) -> Clock:
        return HostClock()

    def translate_error(self, error: Exception) -> Exception:
        return error

    def peak_bytes(self) -> int | None:
        return None


class _Step:
    """Opens and ends a step of a plug-in, which owns what it keeps for the next one."""

    def __init__(self, do: Callable[..., Any], step: Any) -> None:
        self._do, self._step = do, step

    def __enter__(self) -> None:
        self._do(self._step, True)

    def __exit__(self, *_: object) -> None:
        self._do(self._step, False)


class DeviceMemory:
    """The memory of one device other than the CPU.

    `kind` is the name of the device kind, `dlpack` its DLPack device type, `number` the index of
    the device. Time stamps and statistics of our plug-ins are used if registered; a kind that
    provides them differently overrides `clock`, `peak_bytes` or `translate_error`.
    """

    copies = True

    def __init__(self, kind: str, dlpack: int, number: int, smaller: str = "") -> None:
        """`smaller`: what the user may do, besides closing programs, if memory does not suffice."""
        ffi = import_tvm_ffi()
        free = "close other programs that use the device"
        self._hints = {_FULL: f"{free}, or {smaller}" if smaller else free, _LOST: _IF_LOST}
        self._shape, self._dtype = ffi.Shape, ffi.dtype
        self._kind, self._number = kind, number
        self._device = ffi.device(dlpack, number)
        self._allocate = ffi.get_global_func("runtime.TVMTensorAllocWithScope")
        # Those of a plug-in wait less: TVM's wait after every write, and twice for a read.
        write, read = self._plugin_function("write"), self._plugin_function("read")
        self._up = write or ffi.get_global_func("runtime.TVMTensorCopyFromBytes")
        self._down = read or ffi.get_global_func("runtime.TVMTensorCopyToBytes")
        self._wait = ffi.get_global_func("runtime.Device_StreamSync")
        host = Host.machine_devices  # the VM computes shapes on the host, which must be last
        self.machine_devices = (dlpack, number, _UNPOOLED, *host)

    def put(self, array: np.ndarray) -> Any:
        tensor = self._empty(array.shape, array.dtype.name)
        self.write(tensor, array)
        return tensor

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        tensor = self._empty(shape, dtype)
        self.write(tensor, untouched_zeros(shape, dtype))  # reads only the shared zero page
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

    def repeated(self) -> AbstractContextManager[object]:
        make = self._plugin_function("step")
        return nullcontext() if make is None else _Step(self._do, make(self._number))

    def clock(self) -> Clock:
        stamp, stamps = self._plugin_function("stamp"), self._plugin_function("stamps")
        return (
            WaitingClock(self.wait) if stamp is None else DeviceClock(self._number, stamp, stamps)
        )

    def translate_error(self, error: Exception) -> Exception:
        message = str(error).strip()
        if not message.startswith(f"{self._kind}: "):
            return error
        hints = [hint for start, hint in self._hints.items() if f"{self._kind}: {start}" in message]
        return DeviceError("; ".join([message.splitlines()[0], *hints]))

    def peak_bytes(self) -> int | None:
        statistics = self._plugin_function("statistics")
        if statistics is None:
            return None
        return int(json.loads(statistics(self._number))["peak_bytes"])

    def _plugin_function(self, name: str) -> Any:
        """A function of our plug-in; None if TVM's built-in device API is used instead."""
        full_name = f"handglass.{self._kind}.{name}"
        return import_tvm_ffi().get_global_func(full_name, allow_missing=True)

    def _empty(self, shape: Sequence[int], dtype: str) -> Any:
        size, kind = self._shape(shape), self._dtype(dtype)
        return self._do(self._allocate, size, kind, self._device, None)

    def _do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except RuntimeError as error:
            raise self.translate_error(error) from error
