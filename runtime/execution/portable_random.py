"""Random numbers that are reproducible across numpy releases and machines.

numpy does not guarantee that for its generators. Used where results are compared with results
stored by another machine: integers are splitmix64 of a counter, and floats derive from them by
exact operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_NORMAL = np.float32(2.0**-15 * 0.8660254)  # scales the sum of four uniform numbers to variance 1


class PortableRandom:
    """The methods of numpy's Generator that execution/fills.py uses; seeds are below 2^32."""

    def __init__(self, *seed: int) -> None:
        start = np.zeros(1, np.uint64)
        for part in seed:
            start = _mixed(start + np.uint64(part) + _GOLDEN)
        self._next = start

    def standard_normal(self, count: int, dtype: Any = np.float32) -> np.ndarray:
        """Approximately normal values in [-3.5, 3.5], a sufficient tail for kernel tests."""
        words = self._words(count)
        total = np.full(count, -2 * 0xFFFF, np.int32)
        for shift in (0, 16, 32, 48):
            total += (words >> np.uint64(shift) & np.uint64(0xFFFF)).astype(np.int32)
        return (total.astype(np.float32) * _NORMAL).astype(dtype)

    def integers(
        self, low: int, high: int, count: int, dtype: Any = np.int64, endpoint: bool = True
    ) -> np.ndarray:
        """`count` integers from `low` to `high`, included if `endpoint`; a range below 2^63."""
        span = high - low + endpoint
        offsets = (self._words(count) % np.uint64(span)).astype(np.int64)
        return (offsets + low).astype(dtype)

    def uniform(self, low: float, high: float, count: int) -> np.ndarray:
        """`count` float64 values in [low, high)."""
        unit = (self._words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + unit * (high - low)

    def _words(self, count: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            steps = np.arange(1, count + 1, dtype=np.uint64)
            words = self._next + steps * _GOLDEN
            self._next = words[-1:] if count else self._next
        return _mixed(words)


def _mixed(words: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 by Sebastiano Vigna (public domain)."""
    words = (words ^ (words >> np.uint64(30))) * _MIX[0]
    words = (words ^ (words >> np.uint64(27))) * _MIX[1]
    return words ^ (words >> np.uint64(31))
