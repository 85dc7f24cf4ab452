"""Plans the tiles of the slicing method `grid`: sizes only, no pixels.

A picture of more pixels than one tile has is shown as an overview and as a grid of slices, each
about as large as the overview. The rounding is that of the reference, on which the choice depends
near ties: Python's `round`, half to even, and `int`, towards zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from handglass.errors import InputError

MAX_ASPECT = 100
"""The longest picture: its longer side by the other."""

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Grid:
    """Parameters of the method `grid`."""

    resolution: int
    """A tile has about resolution x resolution pixels."""
    multiple: int
    """Both sides of every tile are multiples of it."""
    max_slices: int
    """1: pictures are never sliced."""

    @property
    def largest_tile(self) -> int:
        """A bound of the pixels of a tile: one as long as a picture may be, rounded up."""
        longest = math.isqrt(MAX_ASPECT)
        narrow = self.resolution // longest + 1 + self.multiple
        return narrow * (self.resolution * longest + self.multiple)


@dataclass(frozen=True)
class Plan:
    """The tiles of one picture."""

    whole: Size
    """The tile that shows all of the picture."""
    columns: int = 0
    rows: int = 0
    slice: Size = (0, 0)

    @property
    def refined(self) -> Size:
        """The size to which the picture is resized before it is cut into slices."""
        return self.slice[0] * self.columns, self.slice[1] * self.rows

    @property
    def boxes(self) -> Iterator[tuple[int, int, int, int]]:
        """(left, top, right, bottom) of each slice in the refined picture, row by row."""
        width, height = self.slice
        for row in range(self.rows):
            for column in range(self.columns):
                left, top = column * width, row * height
                yield left, top, left + width, top + height


def plan(size: Size, grid: Grid) -> Plan:
    """The tiles of a picture of this size. Raises InputError for one that is too long."""
    width, height = size
    if max(size) > MAX_ASPECT * min(size):
        raise InputError(
            f"{width} x {height} pixels: one side is more than {MAX_ASPECT} times the other; "
            "crop the picture"
        )
    shape = _shape(size, grid)
    if shape is None:
        return Plan(fitted(width, height, grid.resolution, grid.multiple))
    columns, rows = shape
    wide, high = _rounded(width, columns) / columns, _rounded(height, rows) / rows
    whole = fitted(width, height, grid.resolution, grid.multiple)
    return Plan(whole, columns, rows, fitted(wide, high, grid.resolution, grid.multiple))


def _shape(size: Size, grid: Grid) -> Size | None:
    """(columns, rows) of the slices; None if the picture is not sliced."""
    width, height = size
    wanted = min(math.ceil(width * height / grid.resolution**2), grid.max_slices)
    if wanted <= 1:
        return None
    ratio = math.log(width / height)
    counts = (n for n in (wanted - 1, wanted, wanted + 1) if 1 < n <= grid.max_slices)
    shapes = ((c, n // c) for n in counts for c in range(1, n + 1) if n % c == 0)
    return min(shapes, key=lambda shape: abs(ratio - math.log(shape[0] / shape[1])))


def fitted(
    width: float, height: float, resolution: int, multiple: int, enlarges: bool = True
) -> Size:
    """The size of a tile that shows a part of this size: about `resolution` squared pixels, or as
    it is if it has fewer and `enlarges` is false.

    The width is computed from the height after this has been truncated.
    """
    if enlarges or width * height > resolution**2:
        ratio = width / height
        height = int(resolution / math.sqrt(ratio))
        width = int(height * ratio)
    return _rounded(width, multiple), _rounded(height, multiple)


def _rounded(length: float, unit: int) -> int:
    """The multiple of `unit` nearest to `length`, at least one."""
    return max(round(length / unit) * unit, unit)
