"""Reads a picture in any form that callers pass: path, bytes, Pillow image or array.

Any problem is a one-line InputError that names the picture.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from handglass.errors import HandglassError, InputError

from ...system.regular_file import open_regular
from . import limits
from .formats import READ, open_file
from .ifd import ORIENTATION
from .upright import Upright

if TYPE_CHECKING:
    from PIL import Image

Picture = Any  # path, bytes, PIL.Image.Image or numpy array, as open_picture accepts


def read_picture(picture: Picture) -> Image.Image:
    """A picture as upright 8-bit RGB (the first frame of an animation). Raises InputError."""
    return _guarded(picture, whole=True)


def open_picture(picture: Picture) -> Upright:
    """A picture, decoded, of which parts can be resized. Raises InputError."""
    return _guarded(picture, whole=False)


def _guarded(picture: Picture, whole: bool) -> Any:
    with reading(f"picture {picture_name(picture)}"):
        upright = _decoded(picture)
        return upright.whole if whole else upright


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn every failure of a decoder inside into "WHAT: REASON", an InputError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # The limits are ours; dropping the alpha of palettes is intended.
            warnings.simplefilter("ignore")
            yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{what}: no such file") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{what}: is damaged, or not a picture ({READ})") from error
    except MemoryError as error:
        raise InputError(f"{what}: does not fit into memory") from error
    except OSError as error:
        problem = error.strerror or _one_line(error)  # Pillow raises it without a number
        raise InputError(f"{what}: cannot be read: {problem}") from error
    except HandglassError:
        raise
    except Exception as error:  # on damaged files decoders raise exceptions of many types
        raise InputError(f"{what}: cannot be read: {_one_line(error)}") from error


def picture_name(picture: Picture) -> str:
    """The name of the picture in error messages."""
    if isinstance(picture, str | os.PathLike):
        return repr(os.fspath(picture))
    if isinstance(picture, bytes | bytearray | memoryview):
        return f"({len(picture)} bytes)"
    filename = getattr(picture, "filename", "")
    return repr(filename) if filename else f"({type(picture).__name__})"


def _decoded(picture: Picture) -> Upright:
    from PIL import Image

    if isinstance(picture, Image.Image):
        return _from_image(picture)
    if isinstance(picture, np.ndarray):
        return Upright(_from_array(picture))
    if isinstance(picture, str | os.PathLike):
        with open_regular(picture) as file:
            limits.check_file(os.fstat(file.fileno()).st_size)
            return _load(file)
    if isinstance(picture, bytes | bytearray | memoryview):
        return _load(io.BytesIO(picture))
    kind = type(picture).__name__
    raise InputError(f"expected a path, bytes, PIL.Image or numpy array, got {kind}")


def _load(file: BinaryIO) -> Upright:
    image, orientation = open_file(file)
    image.load()
    if image.format == "TIFF":  # newer versions of Pillow turn it, and drop the tag then
        orientation = _valid(image.getexif().get(ORIENTATION, 1))
    _check_float(image)
    return Upright(image, orientation)


def _from_image(image: Image.Image) -> Upright:
    limits.check_pixels(*image.size)
    image.load()
    _check_float(image)
    return Upright(image, _valid(image.getexif().get(ORIENTATION, 1)))


def _valid(orientation: Any) -> int:
    return orientation if orientation in range(1, 9) else 1


def _check_float(image: Image.Image) -> None:
    if image.mode == "F":
        raise InputError("the range of floating-point pixels is unknown; save it as 8-bit")


def _from_array(array: np.ndarray) -> Image.Image:
    from PIL import Image

    grey = array.ndim == 2
    colour = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.size and (
        (array.dtype == np.uint8 and (grey or colour)) or (array.dtype == np.uint16 and grey)
    ):
        limits.check_pixels(array.shape[1], array.shape[0])
        return Image.fromarray(np.ascontiguousarray(array))
    raise InputError(
        "an array must be (h, w) or (h, w, 3 or 4) of uint8, or (h, w) of uint16; "
        f"got {array.shape} of {array.dtype}"
    )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__
