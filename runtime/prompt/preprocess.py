"""Preprocesses a picture (path, bytes, PIL image or array) into tiles of patches.

Reproduces the reference bit for bit: convert to RGB (alpha is dropped, not blended), resize the
8-bit original with Pillow's bicubic filter, x/255, (x - mean)/std, concatenate the patches in one
strip. Any problem with a picture is a one-line InputError that names it.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handglass.errors import InputError

from .positions import open_positions
from .slicing import Crop, open_slicer

if TYPE_CHECKING:
    from PIL import Image

    from ..bundle.entries import VisionEntry
    from ..bundle.manifest import Manifest

_MAX_BYTES = 256 << 20  # per file; Pillow limits the number of pixels
Picture = Any  # path, bytes, PIL.Image.Image or numpy array, as read_picture accepts


@dataclass(frozen=True, eq=False)
class Tile:
    """One tile of a picture, as `encode_image` takes it: n = height * width patches of p x p."""

    strip: np.ndarray  # (3, p, p * n) float32
    position_ids: np.ndarray  # (n,) int32
    grid: np.ndarray  # (n, 2) int32: row, column
    height: int  # in patches
    width: int
    rows: int  # embedding rows that it produces
    role: str  # a key of the template's tiles

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arguments of `Session.encode_image`."""
        return self.strip, self.position_ids, self.grid

    @cached_property
    def digest(self) -> str:
        """A hash of the pixels: the key of the caches of encoded tiles."""
        shape = f"{self.height}x{self.width}:".encode()
        return hashlib.sha256(shape + self.strip.tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture as the tiles of one model, to be shown in several turns without further work."""

    tiles: tuple[Tile, ...]
    vision: VisionEntry


class Preprocessor:
    """Preprocesses pictures for a bundle whose manifest has this `vision` entry.

    Raises MismatchError if the manifest names a method that this version lacks.
    """

    def __init__(self, vision: VisionEntry) -> None:
        self._vision = vision
        self._slice = open_slicer(vision)
        self._position_ids = open_positions(vision)

    def tiles(self, picture: Picture) -> list[Tile]:
        """The tiles of a picture, in prompt order. Raises InputError for an invalid picture."""
        if isinstance(picture, Prepared):
            if picture.vision != self._vision:
                raise InputError("the picture was prepared for another model; prepare it again")
            return list(picture.tiles)
        return [self._tile(crop) for crop in self._slice(read_picture(picture))]

    def _tile(self, crop: Crop) -> Tile:
        vision = self._vision
        x = normalise(np.asarray(crop.image), vision.mean, vision.std)  # (3, h, w)
        strip, grid = cut_patches(x, vision.patch_size)
        height, width = (side // vision.patch_size for side in x.shape[1:])
        ids = self._position_ids(height, width)
        return Tile(strip, ids, grid, height, width, vision.rows(len(grid)), crop.role)


def open_preprocessor(manifest: Manifest) -> Callable[[Picture], list[Tile]]:
    """A function from picture to tiles; for a text-only bundle, one that raises InputError."""
    if manifest.vision is not None:
        return Preprocessor(manifest.vision).tiles
    architecture = manifest.model.architecture

    def refuse(picture: Picture) -> list[Tile]:
        raise InputError(f"this model ({architecture}) is text-only; ask without pictures")

    return refuse


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(h, w, 3) uint8 -> (3, h, w) float32: (x / 255 - mean) / std per channel."""
    x = image.astype(np.float32).transpose(2, 0, 1) / np.float32(255)
    channels = (3, 1, 1)
    mean_, std_ = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    return (x - mean_.reshape(channels)) / std_.reshape(channels)


def cut_patches(x: np.ndarray, patch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(3, h, w) float32 -> strip (3, p, p * n) float32, grid (n, 2) int32 of (row, column).

    Patch i of the row-major grid is columns p * i to p * i + p of the strip.
    """
    p = patch_size
    height, width = x.shape[1] // p, x.shape[2] // p
    split = x.reshape(3, height, p, width, p)  # (c, row, y, column, x)
    strip = np.ascontiguousarray(split.transpose(0, 2, 1, 3, 4).reshape(3, p, height * width * p))
    grid = np.stack(np.divmod(np.arange(height * width), width), axis=1)
    return strip, grid.astype(np.int32)


def read_picture(picture: Picture) -> Image.Image:
    """A picture as upright 8-bit RGB (the first frame of an animation). Raises InputError."""
    from PIL import Image, ImageOps

    name = picture_name(picture)
    try:
        with warnings.catch_warnings():
            # The pixel limit is checked below; dropping the alpha of palettes is intended.
            warnings.simplefilter("ignore")
            image = _open(picture, name)
            _check_size(image, name, Image.MAX_IMAGE_PIXELS)
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _to_rgb(upright, name)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"picture {name}: too large: {_one_line(error)}") from error
    except FileNotFoundError as error:
        raise InputError(f"picture {name}: no such file") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(f"picture {name}: not in a format that Pillow can read") from error
    except MemoryError as error:
        raise InputError(f"picture {name}: does not fit into memory") from error
    except Exception as error:  # on damaged files Pillow raises exceptions of many types
        raise InputError(f"picture {name}: cannot be read: {_one_line(error)}") from error


def picture_name(picture: Picture) -> str:
    """The name of the picture in error messages."""
    if isinstance(picture, str | os.PathLike):
        return repr(os.fspath(picture))
    if isinstance(picture, bytes | bytearray | memoryview):
        return f"({len(picture)} bytes)"
    filename = getattr(picture, "filename", "")
    return repr(filename) if filename else f"({type(picture).__name__})"


def _open(picture: Picture, name: str) -> Image.Image:
    from PIL import Image

    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, np.ndarray):
        return _from_array(picture, name)
    if isinstance(picture, str | os.PathLike):
        data = _read_file(Path(picture), name)
    elif isinstance(picture, bytes | bytearray | memoryview):
        data = bytes(picture)
    else:
        raise InputError(
            f"picture {name}: expected a path, bytes, PIL.Image or numpy array, "
            f"got {type(picture).__name__}"
        )
    if not data:
        raise InputError(f"picture {name}: is empty")
    return Image.open(io.BytesIO(data))


def _read_file(path: Path, name: str) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)  # a device or a pipe may be endless
    if len(data) > _MAX_BYTES:
        raise InputError(f"picture {name}: larger than {_MAX_BYTES} bytes")
    return data


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    from PIL import Image

    grey = array.ndim == 2
    colour = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype == np.uint8 and (grey or colour):
        return Image.fromarray(np.ascontiguousarray(array))
    if array.dtype == np.uint16 and grey:
        return Image.fromarray(np.ascontiguousarray(array))
    raise InputError(
        f"picture {name}: an array must be (h, w) or (h, w, 3 or 4) of uint8, or (h, w) of "
        f"uint16; got {array.shape} of {array.dtype}"
    )


def _check_size(image: Image.Image, name: str, limit: int | None) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise InputError(f"picture {name}: has no pixels ({width} x {height})")
    if limit is not None and width * height > limit:
        raise InputError(
            f"picture {name}: {width} x {height} pixels exceed the limit of {limit}; "
            "resize the picture"
        )


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    from PIL import Image

    if image.mode == "F":
        raise InputError(
            f"picture {name}: the range of floating-point pixels is unknown; save it as 8-bit"
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_from_16_bit(np.asarray(image), name)).convert("RGB")
    if image.mode in ("RGBa", "La"):  # premultiplied alpha: Pillow converts it only in two steps
        image = image.convert(image.mode.replace("a", "A"))
    return image.convert("RGB")


def _from_16_bit(values: np.ndarray, name: str) -> np.ndarray:
    """Scale 0..65535 to 0..255, rounded; Pillow's conversion would clip values above 255."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise InputError(
            f"picture {name}: grey values {low}..{high} exceed 16 bits; save it as 8-bit"
        )
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__
