"""Creates the arguments of a kernel from a client's description, in one or more copies.

With several copies, timing covers more memory than the caches hold. The contents derive from a
seed, so no large data is transferred.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handglass.errors import DeviceError, InputError

from ..bundle.bfloat16 import bfloat16_bits, bfloat16_values
from ..bundle.tensors import ALIGNMENT, aligned_empty, storage_dtype
from ..system.memory import available_bytes
from .fields import Fields
from .fills import Fill, Random, read_fill
from .placement import Host, Placement

DTYPES = ("float32", "float16", "bfloat16", "int8", "uint8", "int32", "uint16", "uint32", "int64")
MAX_ITEMS, MAX_RANK = 256, 16
MAX_TENSORS = 1 << 16
"""Limit for all copies together."""
_MAX_SIZE = 1 << 40
_CHUNK = 1 << 20  # values generated at a time, to bound temporary memory
_USABLE = 0.9  # usable fraction of the memory that Linux reports as available


@dataclass(frozen=True)
class Tensor:
    """The description of a tensor. bfloat16 values are stored as bit patterns: one per uint16, or
    two per uint32."""

    shape: tuple[int, ...]
    dtype: str
    fill: Fill
    bfloat16: bool

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * storage_dtype(self.dtype).itemsize

    def empty(self) -> np.ndarray:
        return aligned_empty(self.shape, storage_dtype(self.dtype))

    def write(self, array: np.ndarray, random: Random) -> None:
        flat = self._parts(array)
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            if self.bfloat16:
                drawn = self.fill.draw(random, part.size, np.dtype(np.float32))
                part[...] = bfloat16_bits(drawn)
            else:
                part[...] = self.fill.draw(random, part.size, part.dtype)

    def numbers(self, array: np.ndarray) -> np.ndarray:
        """The stored values as numbers, (n,); bfloat16 patterns become float32."""
        flat = self._parts(array)
        return bfloat16_values(flat) if self.bfloat16 else flat

    def _parts(self, array: np.ndarray) -> np.ndarray:
        flat = array.reshape(-1)
        return flat.view(np.uint16) if self.bfloat16 else flat


Item = Tensor | int


def read_items(values: Sequence[object]) -> list[Item]:
    return [_read_item(Fields(value, f"item {n}")) for n, value in enumerate(values)]


def _read_item(fields: Fields) -> Item:
    """{"int": 5}, or {"shape", "dtype", "fill"}"""
    if "int" in fields:
        number = fields.integer("int", -(1 << 63), (1 << 63) - 1)
        fields.done()
        return number
    shape = tuple(_read_size(size) for size in fields.array("shape", MAX_RANK))
    dtype = fields.choice("dtype", DTYPES)
    fill, bfloat16 = read_fill(fields.inner("fill"), dtype)
    fields.done()
    return Tensor(shape, dtype, fill, bfloat16)


def _read_size(value: object) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_SIZE:
        raise InputError(f"each size of a shape must be from 1 to {_MAX_SIZE}, got {value!r:.80}")
    return value


class Arguments:
    """Arguments of a compiled function: `calls[copy]` are tvm_ffi tensors and integers.

    The tensors live at `place`, by default in host memory. Raises InputError for too many tensors,
    DeviceError if the memory does not suffice.
    """

    def __init__(
        self, items: Sequence[Item], copies: int, seed: int, place: Placement | None = None
    ) -> None:
        if copies * len(items) > MAX_TENSORS:
            raise InputError(
                f"{copies} copies of {len(items)} items exceed the limit of {MAX_TENSORS}"
            )
        self.tensors = {n: item for n, item in enumerate(items) if isinstance(item, Tensor)}
        self.nbytes = copies * sum(tensor.nbytes for tensor in self.tensors.values())
        _check_memory(self.nbytes + copies * len(items) * ALIGNMENT)
        self.place = place or Host()
        self.arrays = self._copy()
        """By index of the item: copy 0 itself, or its host copy if the tensors are on a device."""
        self._fill(seed)
        self.calls: list[tuple[Any, ...]] = [self._call(items, n) for n in range(copies)]

    def refill(self, seed: int) -> None:
        """Refill copy 0 as if it had been created with this seed."""
        self._fill(seed)
        if self.place.copies:
            for n, array in self.arrays.items():
                self.place.write(self.calls[0][n], array)

    def results(self) -> dict[int, np.ndarray]:
        """The current contents of copy 0: views in host memory, copies from a device."""
        if not self.place.copies:
            return self.arrays
        return {n: self.place.view(self.calls[0][n]) for n in self.arrays}

    def _call(self, items: Sequence[Item], copy: int) -> tuple[Any, ...]:
        # Copy 0 in host memory is `arrays` itself; a device always allocates its own memory.
        direct = self.place.copies or not copy
        arrays = self.arrays if direct else {n: _same(array) for n, array in self.arrays.items()}
        return tuple(
            self.place.put(arrays[n]) if n in arrays else item for n, item in enumerate(items)
        )

    def _fill(self, seed: int) -> None:
        for n, array in self.arrays.items():
            self.tensors[n].write(array, np.random.default_rng((seed, n)))

    def _copy(self) -> dict[int, np.ndarray]:
        return {n: tensor.empty() for n, tensor in self.tensors.items()}


def _same(array: np.ndarray) -> np.ndarray:
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def _check_memory(nbytes: int) -> None:
    """Raise DeviceError if memory is short: Linux would overcommit and kill the process later."""
    available = available_bytes()
    if available is not None and nbytes > available * _USABLE:
        raise DeviceError(
            f"the arguments need {nbytes} bytes, the device has {available} available; "
            "request fewer copies"
        )
