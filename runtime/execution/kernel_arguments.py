"""The arguments of a call: what a client describes, made here, in as many copies as it wants.

Several copies let timing walk over more memory than the caches hold. Contents follow from a seed,
so nothing large has to travel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import DeviceError, InputError

from ..bundle.bfloat16 import bfloat16_bits, bfloat16_values
from ..bundle.tensors import ALIGNMENT, aligned_empty, storage_dtype
from .fields import Fields
from .fills import Fill, Random, read_fill
from .placement import Host, Placement

DTYPES = ("float32", "float16", "bfloat16", "int8", "uint8", "int32", "uint16", "uint32", "int64")
MAX_ITEMS, MAX_RANK = 256, 16
MAX_TENSORS = 1 << 16
"""Of all copies together."""
_MAX_SIZE = 1 << 40
_CHUNK = 1 << 20  # values made at a time, so that they need little memory beside the tensor
_SPARED = 0.9  # of the memory that Linux calls available


@dataclass(frozen=True)
class Tensor:
    """A tensor that is still to be made; bfloat16 is held as bit patterns, in uint32 two a word."""

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
        """What the stored values mean, in one dimension."""
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
        raise InputError(f"a size of a shape must be from 1 to {_MAX_SIZE}, got {value!r:.80}")
    return value


class Arguments:
    """`calls[copy]` is what a compiled function takes: tensors of tvm_ffi and integers.

    They are at `place`, by default in the memory that numpy knows.
    """

    def __init__(
        self, items: Sequence[Item], copies: int, seed: int, place: Placement | None = None
    ) -> None:
        if copies * len(items) > MAX_TENSORS:
            raise InputError(f"{copies} copies of {len(items)} items; {MAX_TENSORS} are possible")
        self.tensors = {n: item for n, item in enumerate(items) if isinstance(item, Tensor)}
        self.nbytes = copies * sum(tensor.nbytes for tensor in self.tensors.values())
        _check_memory(self.nbytes + copies * len(items) * ALIGNMENT)
        self.place = place or Host()
        self.arrays = self._copy()
        """By place among the items: copy 0, or the host's copy of it where that is elsewhere."""
        self._fill(seed)
        self.calls: list[tuple[Any, ...]] = [self._call(items, n) for n in range(copies)]

    def refill(self, seed: int) -> None:
        """Copy 0 as if it had been made with this seed."""
        self._fill(seed)
        if self.place.copies:
            for n, array in self.arrays.items():
                self.place.write(self.calls[0][n], array)

    def results(self) -> dict[int, np.ndarray]:
        """What is in copy 0 now; where it is in this memory, itself."""
        if not self.place.copies:
            return self.arrays
        return {n: self.place.view(self.calls[0][n]) for n in self.arrays}

    def _call(self, items: Sequence[Item], copy: int) -> tuple[Any, ...]:
        own = self.place.copies or not copy  # memory of its own, whatever happens to `arrays`
        arrays = self.arrays if own else {n: _same(array) for n, array in self.arrays.items()}
        return tuple(
            self.place.put(arrays[n]) if n in arrays else item for n, item in enumerate(items)
        )

    def _fill(self, seed: int) -> None:
        for n, array in self.arrays.items():
            self.tensors[n].write(array, np.random.default_rng((seed, n)))

    def _copy(self) -> dict[int, np.ndarray]:
        return {n: tensor.empty() for n, tensor in self.tensors.items()}


def _same(array: np.ndarray) -> np.ndarray:
    made = aligned_empty(array.shape, array.dtype)
    made[...] = array
    return made


def _check_memory(nbytes: int) -> None:
    """Linux promises memory that it does not have and kills whoever takes it at its word."""
    available = _available_memory()
    if available is not None and nbytes > available * _SPARED:
        raise DeviceError(
            f"the arguments need {nbytes} bytes, the device has {available} available; "
            "ask for fewer copies"
        )


def _available_memory() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text("ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s*(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
