"""Bicubic resizing of square tables of positions, one axis after the other, tap by tap."""

from __future__ import annotations

import math

import numpy as np


def resized(table: np.ndarray, rows: int, cols: int, a: float, antialias: bool) -> np.ndarray:
    """table (side * side, d) -> (rows * cols, d).

    `a` is the parameter of the cubic. With `antialias`, the cubic is as wide as the step between
    the samples if they are fewer than before, and taps beyond the border are left out; without it,
    they are those of the border.
    """
    side = math.isqrt(len(table))
    square = table.reshape(side, side, -1).astype(np.float64)
    tall = np.stack([_sample(square, o, rows, a, antialias) for o in range(rows)])
    wide = [_sample(tall.transpose(1, 0, 2), o, cols, a, antialias) for o in range(cols)]
    return np.stack(wide, axis=1).reshape(rows * cols, -1).astype(np.float32)


def _sample(x: np.ndarray, at: int, count: int, a: float, antialias: bool) -> np.ndarray:
    """Sample number `at` of `count` along the first axis of x."""
    step = len(x) / count
    centre, spread = step * (at + 0.5), max(step, 1) if antialias else 1
    first, last = math.floor(centre - 2 * spread), math.ceil(centre + 2 * spread)
    shares = {j: _cubic(abs(j + 0.5 - centre) / spread, a) for j in range(first, last + 1)}
    if antialias:
        shares = {j: share for j, share in shares.items() if 0 <= j < len(x)}
    total = sum(shares.values())
    parts = (x[min(max(j, 0), len(x) - 1)] * (s / total) for j, s in shares.items())
    return np.asarray(sum(parts))


def _cubic(x: float, a: float) -> float:
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0
