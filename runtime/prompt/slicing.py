"""Methods that slice a picture into tiles, by the names that manifests use.

A method parses its parameters once and returns a function from an upright RGB picture to its tiles,
in prompt order. Cutting into patches and normalization happen in preprocess.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handglass.errors import InputError, MismatchError

from .pictures.upright import Upright

if TYPE_CHECKING:
    from PIL import Image

    from ..bundle.entries import VisionEntry

WHERE = "manifest.json: vision.slicing"
MAX_TILES = 1024


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


SLICINGS: dict[str, Callable[[VisionEntry], Slicer]] = {"crops": crops}


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
