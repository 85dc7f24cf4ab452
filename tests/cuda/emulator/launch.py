"""Kernels for tests: load PTX, launch with numpy arrays, get exact counts."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from .build import build, keep, machine

LATE, UNINITIALISED_ALLOWED = 1, 2
"""Modes: copies of cp.async land at their wait; shared memory may be read before it is written."""
MESSAGE_BYTES = 512
GUARD = 4096
"""Bytes before and behind each array that belong to nothing."""


class LaunchError(Exception):
    """What a kernel did wrong, with its line of PTX."""


@dataclass(frozen=True)
class Counts:
    """Exact counts of a launch, of all warps.

    Requests and instructions are those of warps; a sector is 32 bytes of global memory. A
    wavefront is one access to all banks of shared memory, `shared_ideal` how many there would be
    without bank conflicts. `divergent` instructions ran without all 32 lanes.
    """

    instructions: int
    global_requests: int
    global_sectors: int
    global_bytes: int
    shared_ideal: int
    shared_wavefronts: int
    mma: int
    barriers: int
    divergent: int
    copies: int

    @property
    def bank_conflicts(self) -> int:
        return self.shared_wavefronts - self.shared_ideal


Argument = np.ndarray | int | float | np.generic


class Module:
    """The kernels of a PTX text, each of which is translated when it is first used."""

    def __init__(self, ptx: str) -> None:
        self.kept = keep(ptx)

    def layout(self, kernel: str) -> list[tuple[int, int]]:
        """Offset and size of each parameter."""
        numbers = _machine().kernel_layout(_loaded(str(build(self.kept, kernel))))
        return [(numbers[1 + 2 * i], numbers[2 + 2 * i]) for i in range(numbers[0])]

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        *arguments: Argument,
        dynamic: int = 0,
        mode: int = LATE,
    ) -> Counts:
        """Run a kernel. Arrays are its buffers, with exact bounds, and keep what it writes.

        Numbers are as wide as their parameters; a Python float is an f32. Raises LaunchError.
        """
        buffers = [_Buffer(a) for a in arguments if isinstance(a, np.ndarray)]
        found = iter(buffers)
        values = [next(found).address if isinstance(a, np.ndarray) else a for a in arguments]
        params = _packed(values, self.layout(kernel))
        table = [number for buffer in buffers for number in (buffer.address, buffer.bytes)]
        statistics = (ctypes.c_uint64 * len(fields(Counts)))()
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        failed = _machine().launch_kernel(
            *(_loaded(str(build(self.kept, kernel))), _three(grid), _three(block), dynamic, params),
            *((ctypes.c_uint64 * max(len(table), 1))(*table), len(buffers), mode),
            *(statistics, message),
        )
        if failed:
            raise LaunchError(message.value.decode())
        for buffer in buffers:
            buffer.copy_back()
        return Counts(*statistics)


@cache
def _machine() -> ctypes.CDLL:
    library = ctypes.CDLL(str(machine()))
    library.load_kernel.restype = ctypes.c_void_p
    library.kernel_layout.restype = ctypes.POINTER(ctypes.c_uint)
    library.kernel_layout.argtypes = [ctypes.c_void_p]
    return library


@cache
def _loaded(path: str) -> ctypes.c_void_p:
    """A kernel of the machine, by its file."""
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    kernel = _machine().load_kernel(path.encode(), message)
    if not kernel:
        raise RuntimeError(message.value.decode())
    return ctypes.c_void_p(kernel)


class _Buffer:
    """A copy of an array between guards, so that no other buffer is next to it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.bytes = array, array.nbytes
        self.memory = np.zeros(array.nbytes + 2 * GUARD, np.uint8)
        self.start = GUARD - self.memory.ctypes.data % 256
        self.address = self.memory.ctypes.data + self.start
        self._content()[:] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)

    def _content(self) -> np.ndarray:
        return self.memory[self.start : self.start + self.bytes]

    def copy_back(self) -> None:
        if self.array.flags.writeable:
            self.array[...] = self._content().view(self.array.dtype).reshape(self.array.shape)


def _three(sizes: Sequence[int]) -> ctypes.Array:
    return (ctypes.c_uint32 * 3)(*(*sizes, 1, 1)[:3])


def _packed(values: Sequence[int | float | np.generic], layout: list[tuple[int, int]]) -> bytes:
    if len(values) != len(layout):
        raise ValueError(f"the kernel has {len(layout)} parameters, not {len(values)}")
    packed = bytearray(max((offset + size for offset, size in layout), default=0) or 1)
    for value, (offset, size) in zip(values, layout, strict=True):
        packed[offset : offset + size] = _bytes_of(value, size)
    return bytes(packed)


def _bytes_of(value: int | float | np.generic, size: int) -> bytes:
    if isinstance(value, np.generic):
        return value.tobytes()
    if isinstance(value, float):
        return np.float32(value).tobytes()
    return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
