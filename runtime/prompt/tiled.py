"""Pictures on a canvas of tiles that the vision tower encodes together (Llama 3.2 Vision).

The picture is resized, but not distorted, to fit on a canvas of whole tiles; what it does not cover
is black. The tower always takes as many tiles as a canvas may have, so those that a canvas lacks
are zeros, and each tile has a class token before its patches and rows of zeros after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from handglass.errors import InputError

from ..bundle.canvases import arrangements, padded

if TYPE_CHECKING:
    from ..bundle.entries import VisionEntry

WHERE = "manifest.json: vision.slicing"
MAX_TILES = 16
MAX_PIXELS = 1 << 24
"""Most pixels of all tiles of a picture together."""


@dataclass(frozen=True)
class Tiled:
    """Parameters of the method `tiled`."""

    max_tiles: int


def canvas_of(size: tuple[int, int], max_tiles: int, side: int) -> tuple[int, int]:
    """(rows, columns) of the canvas for a picture of `size` (width, height); a tile has `side`.

    Of the canvases on which the picture can be enlarged, the one that enlarges it least; else the
    one that shrinks it least; of equal ones, the first with the smallest area.
    """
    width, height = size
    scales = {
        (rows, columns): min(columns * side / width, rows * side / height)
        for rows, columns in arrangements(max_tiles)
    }
    larger = [scale for scale in scales.values() if scale >= 1]
    best = min(larger) if larger else max(scales.values())
    return min((c for c, scale in scales.items() if scale == best), key=lambda c: c[0] * c[1])


def fitted(size: tuple[int, int], canvas: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) of a picture on a canvas of (rows, columns) tiles.

    A picture smaller than a tile is enlarged until it has the side of one; a larger one keeps its
    size if it fits.
    """
    width, height = size
    rows, columns = canvas
    wide = min(max(width, side), columns * side)
    high = min(max(height, side), rows * side)
    across, down = wide / width, high / height
    if across < down:
        return wide, min(int(height * across) or 1, high)
    return min(int(width * down) or 1, wide), high


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of the vision tower for a canvas: first those of its tiles, tile by tile; then those
    of tiles that it lacks; then the padding of all tiles."""

    position_ids: np.ndarray
    """(n,) int32: (arrangement * max_tiles + tile) * rows of a padded tile + row."""
    order: np.ndarray
    """(n,) the patch of the canvas, by rows; -1: zeros."""
    grid: np.ndarray
    """(r, 2) int32: row and column of the patch, for the rows of the canvas's tiles; -1, -1 for a
    class token."""


def rows_of(rows: int, columns: int, max_tiles: int, side: int) -> Rows:
    """Rows of a canvas of (rows, columns) tiles, each of side * side patches."""
    count = side * side + 1
    known = rows * columns
    tile, row = np.divmod(np.arange(max_tiles * padded(count)), padded(count))
    kind = np.where(row >= count, 2, tile >= known)
    first = arrangements(max_tiles).index((rows, columns)) * max_tiles * padded(count)
    down, across = np.divmod(row - 1, side)
    grid = np.stack([tile // columns * side + down, tile % columns * side + across], axis=1)
    is_patch = (kind == 0) & (row > 0)
    grid[~is_patch] = -1
    patch = np.where(is_patch, grid[:, 0] * columns * side + grid[:, 1], -1)
    sort = np.argsort(kind, kind="stable")
    ids = (first + np.arange(len(kind)))[sort].astype(np.int32)
    return Rows(ids, patch[sort], grid[sort][: known * count].astype(np.int32))


def most_tiles(vision: VisionEntry) -> int:
    """The tiles of the largest canvas. Raises InputError for a number out of range."""
    tiles = vision.slicing.parse(Tiled, WHERE).max_tiles
    if not 0 < tiles <= MAX_TILES or tiles * vision.image_size**2 > MAX_PIXELS:
        raise InputError(
            f"{WHERE}: max_tiles {tiles!s:.40} must be 1 to {MAX_TILES}, and {MAX_PIXELS} pixels "
            "together"
        )
    return tiles


def layout_rows(vision: VisionEntry, height: int, width: int) -> Rows:
    """Rows of a canvas of height x width patches. Raises InputError if there is no such canvas."""
    side, tiles = vision.image_size // vision.patch_size, most_tiles(vision)
    canvas = height // side, width // side
    if height % side or width % side or canvas not in arrangements(tiles):
        raise InputError(f"{height} x {width} patches are no canvas of at most {tiles} tiles")
    return rows_of(*canvas, tiles, side)
