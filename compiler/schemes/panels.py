"""Panels of 16 output columns, the weight layout of every scheme."""

from __future__ import annotations

import numpy as np

from handglass.schedules.isa.register_tiles import LANES


def panels(rows: np.ndarray, fill: int = 0) -> np.ndarray:
    """(n, k) -> (ceil(n / 16), k, 16); padding rows hold `fill`."""
    n, k = rows.shape
    count = panel_count(n)
    if n < count * LANES:
        rows = np.pad(rows, ((0, count * LANES - n), (0, 0)), constant_values=fill)
    return np.ascontiguousarray(rows.reshape(count, LANES, k).transpose(0, 2, 1))


def rows_of(packed: np.ndarray, n: int) -> np.ndarray:
    """The inverse of `panels`: (ceil(n / 16), k, 16) -> (n, k)."""
    return packed.transpose(0, 2, 1).reshape(-1, packed.shape[1])[:n]


def panel_count(n: int) -> int:
    """Number of panels for n output columns."""
    return -(-n // LANES)
