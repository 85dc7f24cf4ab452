"""What becomes of pictures, and of parts of them, that have fewer pixels than a tile.

`always`: they are enlarged to a tile. `never`: a picture without slices keeps its size, rounded to
whole patches. `adaptive`: so do pictures and parts whose letters are large enough, or which have
hardly any (letters.py). Slices are enlarged unless they are measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..bundle.entries import ADAPTIVE, ALWAYS, NEVER
from .grid_plan import Grid, Plan, Size, fitted
from .letters import wanted_resolution
from .pictures.upright import Upright

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Rule:
    """`resolution` (picture, resolution of a tile) -> that to which it is enlarged, or None."""

    resolution: Callable[[Image.Image, int], int | None]
    measures_parts: bool = False


RULES = {
    ALWAYS: Rule(lambda picture, resolution: resolution),
    NEVER: Rule(lambda picture, resolution: None),
    ADAPTIVE: Rule(wanted_resolution, measures_parts=True),
}


@dataclass(frozen=True)
class Small:
    """A rule with the sizes of tiles."""

    grid: Grid
    rule: Rule

    def whole(self, picture: Upright, tile: Size) -> Image.Image:
        """A picture without slices; `tile` is its size if it is enlarged."""
        if _area(picture.size) > self.grid.resolution**2:
            return picture.resize(tile)  # reduced, whatever its letters are
        return picture.resize(self._own_size(picture.whole) or tile)

    def part(self, picture: Upright, at: Size, tiles: Plan, tile: Image.Image) -> Image.Image:
        """The slice in this column and row, or its part of the picture if that makes a smaller
        tile."""
        if not self.rule.measures_parts:
            return tile
        box = _cell(picture.size, at, tiles)
        size = box[2] - box[0], box[3] - box[1]
        if not 0 < _area(size) <= self.grid.resolution**2:
            return tile
        cell = picture.whole.crop(box)
        own = self._own_size(cell)
        if own is None or _area(own) >= _area(tile.size):
            return tile
        return cell if own == cell.size else Upright(cell).resize(own)

    def _own_size(self, picture: Image.Image) -> Size | None:
        """The size of the tile of a small picture; None if it is enlarged like a large one."""
        full = self.grid.resolution
        wanted = self.rule.resolution(picture, full)
        if wanted == full:
            return None
        return fitted(*picture.size, wanted or full, self.grid.multiple, wanted is not None)


def _cell(size: Size, at: Size, tiles: Plan) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the part of a picture that a slice shows."""
    (width, height), (column, row) = size, at
    x = [round(width * n / tiles.columns) for n in (column, column + 1)]
    y = [round(height * n / tiles.rows) for n in (row, row + 1)]
    return x[0], y[0], x[1], y[1]


def _area(size: Size) -> int:
    return size[0] * size[1]
