"""Methods that assign each patch its position in the vision tower, by name.

`bucket`: the table was trained for a square of `side` rows and columns; for another grid, the rows
are found by bucketing i/n. The reference computes the buckets in float32 with torch, where ties
fall one bucket low for some n (25, 49, 50, 55, 58, ... for a 70-wide table). The weights were
trained with those ids, so this module reproduces them bit for bit in numpy.

`floor`: the exact buckets, side * i // n, which newer models are trained with.

`padded`: the buckets of a single row of patches, as many as the picture's largest tile has. The
released code of MiniCPM-V 2.5 pads all tiles to that number and takes each for such a row.

`place`: side * row + column of the patch in its tile, for towers that resize their table to the
grid of the tile. `side` exceeds the columns of every tile.

`tiled`: the place of a row among all tiles of a canvas, which are encoded together (tiled.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from handglass.errors import InputError, MismatchError, UsageError

from ..bundle.entries import PADDED, TILED
from .tiled import layout_rows

if TYPE_CHECKING:
    from ..bundle.entries import VisionEntry

WHERE = "manifest.json: vision.positions"
MAX_SIDE = 1 << 12
MAX_PLACES = 1 << 30
PositionIds = Callable[[int, int], np.ndarray]
"""(rows, columns) of a grid of patches -> (rows * columns,) int32."""

_LANES = 8  # float32 values in one vector of torch's arange kernel


def position_ids(rows: int, cols: int, positions_per_side: int) -> np.ndarray:
    """Position ids of a rows x cols grid of patches, row-major: (rows * cols,) int32.

    Raises UsageError if a size is below 1.
    """
    if min(rows, cols, positions_per_side) < 1:
        raise UsageError(f"no position ids for a {rows} x {cols} grid of {positions_per_side}")
    row = buckets(rows, positions_per_side)
    col = buckets(cols, positions_per_side)
    return _pairs(row, col, positions_per_side)


def _pairs(row: np.ndarray, col: np.ndarray, side: int) -> np.ndarray:
    """Ids of all pairs of an index along each axis, row-major."""
    return (row[:, None] * side + col[None, :]).reshape(-1).astype(np.int32)


def buckets(n: int, side: int) -> np.ndarray:
    """For each of n patches along an axis, the index among `side` positions: (n,) int64."""
    if n == side:
        # With one patch per row, the table was trained with the identity. For sides of 70, 32 and
        # 8, the rounded buckets below give the identity too.
        return np.arange(n)
    # The reference divides by an integer tensor, so its step is 1/n rounded to float32.
    coordinates = _arange(0.0, float(np.float32(1) / np.float32(n)), n)
    boundaries = _arange(1 / side, 1 / side, side - 1)
    return np.searchsorted(boundaries, coordinates, side="right")


def _arange(start: float, step: float, count: int) -> np.ndarray:
    """torch.arange in float32: full pairs of vectors round the first lane and step from it."""
    i = np.arange(count)
    base = (start + step * (i // _LANES * _LANES)).astype(np.float32).astype(np.float64)
    in_vector = i < count // (2 * _LANES) * (2 * _LANES)
    return np.where(in_vector, base + step * (i % _LANES), start + step * i).astype(np.float32)


def floor_ids(rows: int, cols: int, side: int) -> np.ndarray:
    """Position ids by exact buckets, row-major: (rows * cols,) int32."""
    return _pairs(np.arange(rows) * side // rows, np.arange(cols) * side // cols, side)


def place_ids(rows: int, cols: int, side: int) -> np.ndarray:
    """Each patch's own place, by rows: (rows * cols,) int32.

    Raises InputError for a tile whose places do not fit.
    """
    if cols > side or rows * side > MAX_PLACES:
        raise InputError(
            f"a tile of {rows} x {cols} patches is too large; it may have {side} columns and "
            f"{MAX_PLACES // side} rows"
        )
    return _pairs(np.arange(rows), np.arange(cols), side)


@dataclass(frozen=True)
class Table:
    """Parameters of all methods."""

    side: int  # rows and columns of the table


def _side(vision: VisionEntry) -> int:
    side = vision.positions.parse(Table, WHERE).side
    if not 0 < side <= MAX_SIDE:
        raise InputError(f"{WHERE}: side {side!s:.40} must be 1 to {MAX_SIDE}")
    return side


def bucket(vision: VisionEntry) -> PositionIds:
    side = _side(vision)
    return lambda rows, cols: position_ids(rows, cols, side)


def floor(vision: VisionEntry) -> PositionIds:
    side = _side(vision)
    return lambda rows, cols: floor_ids(rows, cols, side)


def place(vision: VisionEntry) -> PositionIds:
    side = _side(vision)
    return lambda rows, cols: place_ids(rows, cols, side)


@dataclass(frozen=True)
class Nothing:
    """A method without parameters."""


def tiled(vision: VisionEntry) -> PositionIds:
    """Those of a canvas of tiles, in the order of `tiled.py`."""
    vision.positions.parse(Nothing, WHERE)
    return lambda rows, cols: layout_rows(vision, rows, cols).position_ids


METHODS: dict[str, Callable[[VisionEntry], PositionIds]] = {
    "bucket": bucket,
    "floor": floor,
    PADDED: bucket,  # of one row: preprocess.py knows how long it is
    "place": place,
    TILED: tiled,
}


def open_positions(vision: VisionEntry) -> PositionIds:
    """The method that the manifest names, with its parameters.

    Raises MismatchError for a method that this version lacks, InputError for bad parameters.
    """
    method = METHODS.get(vision.positions.kind)
    if method is None:
        raise MismatchError(
            f"{WHERE}: {vision.positions.kind!r:.100} is unknown; known: {', '.join(METHODS)}; "
            "install the handglass version that made the bundle, or compile again"
        )
    return method(vision)
