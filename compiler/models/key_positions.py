"""The positions that the resampler adds to its keys, (n, d): of the places grid (n, 2) of (row,
column), and of the times (n,) of video frames."""

from __future__ import annotations

from math import isqrt

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend import nn

from ..checkpoints.checkpoint import Checkpoint
from .layers import opaque
from .leaves import Rows, Stored

TURN_HIGH = 6.28125
TURN_LOW = 2 * np.pi - TURN_HIGH
"""2 pi in two parts: a whole number of turns, up to 2**14, times the first is exact in float32."""
CUBIC = -0.75
"""The parameter of the cubic, as in torch's resizing without antialiasing."""


class ComputedPositions(nn.Module):
    """The sine and cosine of the column, then of the row, for a grid of any size."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.frequencies = Stored((d // 4,), lambda _: _frequencies(d // 4))

    def forward(self, grid: nn.Tensor) -> nn.Tensor:
        return opaque(_positions, "grid_positions", grid, self.frequencies.value)


class TimePositions(nn.Module):
    """The sine and cosine of the time; zeros for a time below 0."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.frequencies = Stored((d // 2,), lambda _: _frequencies(d // 2))

    def forward(self, times: nn.Tensor) -> nn.Tensor:
        return opaque(_times, "time_positions", times, self.frequencies.value)


class EnlargedPositions(nn.Module):
    """The square table of the queries, enlarged to the `side` x `side` grid that every tile has."""

    def __init__(self, source: Rows, side: int) -> None:
        super().__init__()
        self.source, self.side = source, side
        self.table = Stored((side * side, source.shape[1]), self._enlarged, [source])

    def forward(self, grid: nn.Tensor) -> nn.Tensor:
        return opaque(
            lambda grid, table: _gather(grid, table, self.side),
            "grid_positions",
            grid,
            self.table.value,
        )

    def _enlarged(self, checkpoint: Checkpoint) -> np.ndarray:
        stored = self.source.read(checkpoint)
        side = isqrt(len(stored))
        weights = bicubic_weights(side, self.side)
        square = stored.reshape(side, side, -1).astype(np.float64)
        large = np.einsum("ya,xb,abd->yxd", weights, weights, square, optimize=True)
        return large.reshape(self.side**2, -1)


def bicubic_weights(before: int, after: int) -> np.ndarray:
    """Interpolation of `before` samples at `after` places between them: (after, before) float64.

    Four neighbours each, with the outermost samples repeated beyond the border.
    """
    centre = (np.arange(after) + 0.5) * (before / after) - 0.5
    weights = np.zeros((after, before))
    for tap in range(-1, 3):
        neighbour = np.floor(centre).astype(int) + tap
        share = _cubic(np.abs(centre - neighbour))
        np.add.at(weights, (np.arange(after), neighbour.clip(0, before - 1)), share)
    return weights


def _cubic(x: np.ndarray) -> np.ndarray:
    """The cubic convolution kernel for 0 <= x <= 2."""
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = CUBIC * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, far)


def _frequencies(count: int) -> np.ndarray:
    return (1.0 / 10000.0 ** (np.arange(count, dtype=np.float64) / count)).astype(np.float32)


def _positions(grid: te.Tensor, frequencies: te.Tensor) -> te.Tensor:
    """grid (n, 2) of (row, column) -> (n, d): sin, cos of the column, then sin, cos of the row."""
    quarter = int(frequencies.shape[0])

    def value(i, c):
        coordinate = tirx.Select(c < 2 * quarter, grid[i, 1], grid[i, 0]).astype("float32")
        angle = coordinate * frequencies[c % quarter]
        return tirx.if_then_else(c // quarter % 2 == 0, tirx.sin(angle), tirx.cos(angle))

    return te.compute((grid.shape[0], 4 * quarter), value, name="grid_positions")


def _times(times: te.Tensor, frequencies: te.Tensor) -> te.Tensor:
    """times (n,) -> (n, d): sin, cos of the time; zeros for a time below 0.

    Whole turns are removed first: angles are large, and GPUs compute the sine of small ones only.
    """
    half = int(frequencies.shape[0])

    def value(i, c):
        angle = times[i].astype("float32") * frequencies[c % half]
        turns = tirx.round(angle * np.float32(0.5 / np.pi))
        angle = angle - turns * np.float32(TURN_HIGH) - turns * np.float32(TURN_LOW)
        wave = tirx.if_then_else(c < half, tirx.sin(angle), tirx.cos(angle))
        return tirx.if_then_else(times[i] < 0, np.float32(0), wave)

    return te.compute((times.shape[0], 2 * half), value, name="time_positions")


def _gather(grid: te.Tensor, table: te.Tensor, side: int) -> te.Tensor:
    """Places beyond the table, which no tile has, are those of its border."""
    last = tirx.const(side - 1, "int32")

    def value(i, j):
        row, column = (tirx.max(tirx.min(grid[i, axis], last), 0) for axis in range(2))
        return table[row * side + column, j]

    return te.compute((grid.shape[0], table.shape[1]), value, name="grid_positions")
