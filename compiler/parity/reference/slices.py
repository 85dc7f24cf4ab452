"""The tiles of a large picture, implemented a second time: an overview, then slices of a grid."""

from __future__ import annotations

import math

from PIL import Image

from handglass.runtime.prompt.preprocess import Picture, read_picture

from .pixels import Pixels, cut

BICUBIC = Image.Resampling.BICUBIC
Size = tuple[int, int]  # width, height


def sliced(
    picture: Picture, patch_size: int, resolution: int, multiple: int, most: int
) -> list[Pixels]:
    """Tiles of about `resolution` squared pixels whose sides are multiples of `multiple`: all of
    the picture, then at most `most` slices row by row."""
    image = read_picture(picture)
    whole = image.resize(tile_size(*image.size, resolution, multiple), BICUBIC)
    grid = shape_of(image.size, resolution, most)
    parts = parts_of(image, grid, resolution, multiple) if grid else []
    return [cut(tile, patch_size) for tile in (whole, *parts)]


def shape_of(size: Size, resolution: int, most: int) -> Size | None:
    """Columns and rows of the slices; None if one tile shows the picture well enough."""
    count = min(math.ceil(size[0] * size[1] / resolution**2), most)
    if count <= 1:
        return None
    best, least = (1, 1), math.inf
    for number in (n for n in (count - 1, count, count + 1) if 1 < n <= most):
        for columns in range(1, number + 1):
            error = abs(math.log(size[0] / size[1]) - math.log(columns / (number // columns)))
            if number % columns == 0 and error < least:
                best, least = (columns, number // columns), error
    return best


def parts_of(image: Image.Image, grid: Size, resolution: int, multiple: int) -> list[Image.Image]:
    """The slices of a grid, each resized to a tile of its own."""
    columns, rows = grid
    wide, high = (nearest(side, n) / n for side, n in zip(image.size, grid, strict=True))
    width, height = tile_size(wide, high, resolution, multiple)
    refined = image.resize((width * columns, height * rows), BICUBIC)
    return [
        refined.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
        for row in range(rows)
        for column in range(columns)
    ]


def tile_size(width: float, height: float, resolution: int, multiple: int) -> Size:
    """About `resolution` squared pixels of the same proportions; both sides are truncated first."""
    tall = int(resolution / math.sqrt(width / height))
    return nearest(int(tall * (width / height)), multiple), nearest(tall, multiple)


def nearest(length: float, unit: int) -> int:
    """The nearest multiple of `unit` above 0; of two, the even one."""
    return max(round(length / unit) * unit, unit)
