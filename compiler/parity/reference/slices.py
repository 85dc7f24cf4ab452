"""The tiles of a large picture, implemented a second time: an overview, then slices of a grid."""

from __future__ import annotations

import math
from collections.abc import Iterator

from PIL import Image

from handglass.runtime.bundle.entries import ADAPTIVE, ALWAYS
from handglass.runtime.prompt.letters import wanted_resolution
from handglass.runtime.prompt.preprocess import Picture, read_picture

from .pixels import Pixels, cut

BICUBIC = Image.Resampling.BICUBIC
Size = tuple[int, int]  # width, height


def sliced(
    picture: Picture,
    patch_size: int,
    resolution: int,
    multiple: int,
    most: int,
    small: str = ALWAYS,
) -> list[Pixels]:
    """Tiles of about `resolution` squared pixels whose sides are multiples of `multiple`: all of
    the picture, then at most `most` slices row by row. `small`: which pictures of fewer pixels are
    enlarged; their letters are measured by the runtime."""
    image = read_picture(picture)
    grid = shape_of(image.size, resolution, most)
    size = tile_size(*image.size, resolution, multiple)
    if not grid and small != ALWAYS:
        size = size_of_small(image, resolution, multiple, small == ADAPTIVE)
    parts = parts_of(image, grid, resolution, multiple) if grid else []
    if grid and small == ADAPTIVE:
        cells = cells_of(image, grid)
        pairs = zip(cells, parts, strict=True)
        parts = [smaller(cell, part, resolution, multiple) for cell, part in pairs]
    return [cut(tile, patch_size) for tile in (image.resize(size, BICUBIC), *parts)]


def size_of_small(image: Image.Image, resolution: int, multiple: int, measures: bool) -> Size:
    """The size of a tile of an image that is enlarged only if its letters ask for it."""
    wanted = wanted_resolution(image, resolution) if measures else None
    limit = wanted or resolution
    if wanted or image.width * image.height > limit**2:
        return tile_size(*image.size, limit, multiple)
    return nearest(image.width, multiple), nearest(image.height, multiple)


def cells_of(image: Image.Image, grid: Size) -> Iterator[Image.Image]:
    """The parts of the image itself that the slices of a grid show."""
    columns, rows = grid
    x, y = (
        [round(side * n / count) for n in range(count + 1)]
        for side, count in zip(image.size, grid, strict=True)
    )
    for row in range(rows):
        for column in range(columns):
            yield image.crop((x[column], y[row], x[column + 1], y[row + 1]))


def smaller(cell: Image.Image, part: Image.Image, resolution: int, multiple: int) -> Image.Image:
    """The slice `part`, or a tile of the cell if that is smaller and large enough to be read."""
    if not 0 < cell.width * cell.height <= resolution**2:
        return part
    width, height = size_of_small(cell, resolution, multiple, measures=True)
    if width * height >= part.width * part.height:
        return part
    return cell.resize((width, height), BICUBIC)


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
