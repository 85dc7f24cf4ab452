"""Stored values as float32, and the pages that reading them maps."""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from handglass.errors import InputError

FLOATS = ("float32", "float16", "bfloat16")
CHUNK = 1 << 22  # elements checked or computed at a time


class Computed(ABC):
    """Named tensors whose values are computed from what a file holds."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]: ...

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]: ...

    @abstractmethod
    def floats(self, name: str, rows: slice) -> np.ndarray:
        """Some rows in float32."""

    @abstractmethod
    def release(self, name: str) -> None:
        """Release the mapped pages of a tensor; see `drop_pages`."""


def widen(stored: np.ndarray, dtype: str) -> np.ndarray:
    """A float32 copy. bfloat16 is passed as uint16 bits: the upper half of a float32."""
    values = np.empty(stored.shape, np.float32)
    if dtype == "bfloat16":
        np.left_shift(stored, 16, out=values.view(np.uint32), dtype=np.uint32)
    else:
        values[...] = stored
    return values


def check_finite(name: str, values: np.ndarray) -> None:
    """Raise InputError for NaN or infinity."""
    flat = values.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        if not np.isfinite(flat[start : start + CHUNK]).all():
            raise InputError(f"{name}: contains NaN or infinity; the checkpoint is damaged")


def drop_pages(array: np.ndarray) -> None:
    """Release mapped pages of this process; they stay in the page cache of the system."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if not isinstance(owner, mmap.mmap) or not array.flags.c_contiguous or not array.nbytes:
        return
    start = array.ctypes.data - np.frombuffer(owner, np.uint8, 1).ctypes.data
    page = start - start % mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, page, start + array.nbytes - page)
