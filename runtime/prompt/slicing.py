"""Methods that slice a picture into tiles, by the names that manifests use.

A method parses its parameters once and returns a function from an upright RGB picture to its tiles,
in prompt order. Cutting into patches and normalization happen in preprocess.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from handglass.errors import InputError, MismatchError, UsageError

from ..bundle.bounds import LARGEST, PATCHES
from ..bundle.entries import GRIDS, TILED
from ..system.json_dataclass import optional
from .grid_plan import Grid, Plan, plan
from .pictures.upright import FILTERS, Upright
from .small_pictures import RULES, Small
from .tiled import canvas_of, fitted, most_tiles

if TYPE_CHECKING:
    from PIL import Image

    from ..bundle.entries import VisionEntry

WHERE = "manifest.json: vision.slicing"
MAX_TILES = 1024
MAX_SLICES = 100
MAX_PIXELS = 1 << 24
"""Most pixels of all tiles of a picture together."""


@dataclass(frozen=True)
class Crop:
    """One tile of a picture, resized to the resolution of the vision tower."""

    role: str  # a key of prompt.tiles
    image: Image.Image


Slicer = Callable[[Upright], list[Crop]]


@dataclass(frozen=True)
class Box:
    """A part of the picture, in fractions of its width and height."""

    role: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Crops:
    """Parameters of the method `crops`."""

    boxes: tuple[Box, ...]


def crops(vision: VisionEntry) -> Slicer:
    """Fixed crops of every picture, each resized (bicubic) to a square of `image_size`."""
    boxes = vision.slicing.parse(Crops, WHERE).boxes
    if not 0 < len(boxes) <= MAX_TILES:
        raise InputError(f"{WHERE}: {len(boxes)} boxes; must be 1 to {MAX_TILES}")
    if len(boxes) * vision.image_size**2 > MAX_PIXELS:
        raise InputError(
            f"{WHERE}: {len(boxes)} tiles of {vision.image_size} x {vision.image_size} have more "
            f"than {MAX_PIXELS} pixels"
        )
    for box in boxes:
        if not (0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1):
            raise InputError(
                f"{WHERE}: {box}: must have left < right and top < bottom, all in 0..1"
            )
    side = vision.image_size
    return lambda image: [Crop(box.role, _resized(image, box, side)) for box in boxes]


def _resized(picture: Upright, box: Box, side: int) -> Image.Image:
    width, height = picture.size
    part = (box.left * width, box.top * height, box.right * width, box.bottom * height)
    return picture.resize((side, side), part)


def grid(vision: VisionEntry) -> Slicer:
    """An overview and slices, as the planner of the reference lays them out (grid_plan.py).

    The roles are "picture" for a picture without slices, else "overview", then row by row "slice",
    "row_end" for the last slice of each row but the last, and "last" for the very last one. The
    method also says what becomes of small pictures (small_pictures.py).
    """
    parameters, rule = vision.slicing.parse(Grid, WHERE), RULES[GRIDS[vision.slicing.kind]]
    for text in _beyond(parameters, vision):
        raise InputError(f"{WHERE}: {text}")
    return lambda image: list(_sliced(image, plan(image.size, parameters), Small(parameters, rule)))


def _beyond(grid: Grid, vision: VisionEntry) -> Iterator[str]:
    """What is wrong with the parameters."""
    side, largest = vision.patch_size << vision.window_levels, LARGEST["vision.image_size"]
    if not 0 < grid.resolution <= largest:
        yield f"resolution {grid.resolution!s:.40} must be 1 to {largest}"
    if not 0 < grid.multiple <= grid.resolution or grid.multiple % side:
        yield (
            f"multiple {grid.multiple!s:.40} must be a multiple of {side} (patches, in windows), "
            "and at most the resolution"
        )
    if not 0 < grid.max_slices <= MAX_SLICES:
        yield f"max_slices {grid.max_slices!s:.40} must be 1 to {MAX_SLICES}"
    tile = grid.largest_tile
    if tile > PATCHES * vision.patch_size**2 or tile * (grid.max_slices + 1) > MAX_PIXELS:
        yield (
            f"tiles may have {tile} pixels, more than {PATCHES} patches, or than {MAX_PIXELS} "
            "pixels together"
        )


def _sliced(picture: Upright, tiles: Plan, small: Small) -> Iterator[Crop]:
    count = tiles.columns * tiles.rows
    if not count:
        yield Crop("picture", small.whole(picture, tiles.whole))
        return
    yield Crop("overview", picture.resize(tiles.whole))
    refined = picture.resize(tiles.refined)
    for number, box in enumerate(tiles.boxes):
        row, column = divmod(number, tiles.columns)
        ends_row = column == tiles.columns - 1
        role = "slice" if not ends_row else "last" if number == count - 1 else "row_end"
        yield Crop(role, small.part(picture, (column, row), tiles, refined.crop(box)))


@dataclass(frozen=True)
class Square:
    """Parameters of the method `square`."""

    filter: str  # one of FILTERS


@dataclass(frozen=True)
class Centre:
    """Parameters of the method `centre`."""

    filter: str  # one of FILTERS
    shortest: int
    """The shorter side of the resized picture; `image_size` of it are shown."""
    is_rounded: bool = optional(lambda: False)
    """Whether half a pixel of the border is rounded to an even number, as torchvision does it, and
    not down."""


@dataclass(frozen=True)
class Middle:
    """Parameters of the method `middle`."""

    filter: str  # one of FILTERS
    whole: int
    """The side of the resized picture; `image_size` of it are shown."""


def square(vision: VisionEntry) -> Slicer:
    """The whole picture as one tile, a square of `image_size`."""
    method, side = _known_filter(vision.slicing.parse(Square, WHERE).filter), vision.image_size
    return lambda image: [Crop("picture", image.resize((side, side), None, method))]


def centre(vision: VisionEntry) -> Slicer:
    """The square in the middle of the picture, whose shorter side is resized to `shortest`."""
    parameters, side = vision.slicing.parse(Centre, WHERE), vision.image_size
    method, shortest = _known_filter(parameters.filter), parameters.shortest
    if not side <= shortest <= LARGEST["vision.image_size"]:
        largest = LARGEST["vision.image_size"]
        raise InputError(f"{WHERE}: shortest {shortest!s:.40} must be {side} to {largest}")

    def cut(image: Upright) -> list[Crop]:
        width, height = _scaled(image.size, shortest)
        left, top = (_border(length - side, parameters.is_rounded) for length in (width, height))
        resized = image.resize((width, height), None, method)
        return [Crop("picture", resized.crop((left, top, left + side, top + side)))]

    return cut


def middle(vision: VisionEntry) -> Slicer:
    """The square in the middle of the picture, which is resized to a larger square as a whole."""
    parameters, side = vision.slicing.parse(Middle, WHERE), vision.image_size
    method, whole = _known_filter(parameters.filter), parameters.whole
    if not side <= whole <= LARGEST["vision.image_size"]:
        largest = LARGEST["vision.image_size"]
        raise InputError(f"{WHERE}: whole {whole!s:.40} must be {side} to {largest}")
    first = (whole - side) // 2
    box = (first, first, first + side, first + side)
    return lambda image: [Crop("picture", image.resize((whole, whole), None, method).crop(box))]


def _border(both: int, is_rounded: bool) -> int:
    """The first of two borders of the same size."""
    return round(both / 2) if is_rounded else both // 2


def _scaled(size: tuple[int, int], shortest: int) -> tuple[int, int]:
    """Width and height with the shorter one resized to `shortest`; the other is rounded down.

    Raises InputError for a picture so long that the result had too many pixels.
    """
    longer = int(shortest * max(size) / min(size))
    if shortest * longer > MAX_PIXELS:
        raise InputError(f"{size[0]} x {size[1]} pixels are too long for this model; crop it")
    return (shortest, longer) if size[0] <= size[1] else (longer, shortest)


def _known_filter(name: str) -> str:
    if name not in FILTERS:
        raise InputError(f"{WHERE}: filter {name!r:.40} is unknown; known: {', '.join(FILTERS)}")
    return name


def tiled(vision: VisionEntry) -> Slicer:
    """The picture on a black canvas of whole tiles, which are encoded together (tiled.py)."""
    side, most = vision.image_size, most_tiles(vision)

    def placed(image: Upright) -> list[Crop]:
        from PIL import Image

        rows, columns = canvas_of(image.size, most, side)
        canvas = Image.new("RGB", (columns * side, rows * side))
        canvas.paste(image.resize(fitted(image.size, (rows, columns), side), None, "bilinear"))
        return [Crop("picture", canvas)]

    return placed


SLICINGS: dict[str, Callable[[VisionEntry], Slicer]] = {
    "crops": crops,
    "square": square,
    "centre": centre,
    "middle": middle,
    TILED: tiled,
    **dict.fromkeys(GRIDS, grid),
}


def limited(vision: VisionEntry | None, max_slices: int | None) -> VisionEntry | None:
    """The entry with at most `max_slices` slices; None leaves it as it is.

    Raises UsageError if the model does not slice pictures, or not into so many.
    """
    if max_slices is None:
        return vision
    if vision is None or vision.slicing.kind not in GRIDS:
        raise UsageError(f"max_slices={max_slices!r}: this model does not slice pictures")
    most = vision.slicing.parse(Grid, WHERE).max_slices
    if type(max_slices) is not int or not 1 <= max_slices <= most:
        raise UsageError(f"max_slices={max_slices!r} must be 1 to {most} for this model")
    parameters = {**vision.slicing.parameters, "max_slices": max_slices}
    return replace(vision, slicing=replace(vision.slicing, parameters=parameters))


def open_slicer(vision: VisionEntry) -> Slicer:
    """The method that the manifest names, with its parameters.

    Raises MismatchError for a method that this version lacks, InputError for bad parameters.
    """
    method = SLICINGS.get(vision.slicing.kind)
    if method is None:
        raise MismatchError(
            f"{WHERE}: {vision.slicing.kind!r:.100} is unknown; known: {', '.join(SLICINGS)}; "
            "install the handglass version that made the bundle, or compile again"
        )
    return method(vision)
