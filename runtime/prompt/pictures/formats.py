"""Finds the format of a picture file by its first bytes and opens it without decoding it.

Pillow reads about forty formats. Some start other programs (EPS), some unpack without limit
(JPEG 2000), some are decoded in Python. The formats here are those of cameras, screens and the web,
each with limits that are checked before it is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from handglass.errors import InputError

from . import limits
from .gif import open_gif
from .jpeg import open_jpeg
from .png import open_png
from .tiff import open_tiff
from .upright import PIXEL_BYTES
from .webp import open_webp

if TYPE_CHECKING:
    from PIL import Image

READ = "PNG, JPEG, WebP, GIF, BMP, TIFF and PPM are read"
_SLOW = ("bmp_rle", "ppm", "ppm_plain")  # decoders written in Python
_SLOW_PIXELS = 4_000_000
_SLOW_BYTES = 16 << 20
Opened = tuple["Image.Image", int]
"""A picture that is not decoded yet, and its orientation, 1 to 8 as in EXIF."""


def open_file(file: BinaryIO) -> Opened:
    """Open a picture file. Raises InputError for another format or beyond a limit.

    On damaged files, Pillow raises exceptions of many types.
    """
    head = file.read(64)
    if not head:
        raise InputError("is empty")
    opener = _opener(head)
    if opener is None:
        kind = _known_kind(head)
        advice = f"{kind} is not read; convert it to JPEG or PNG" if kind else "is not a picture"
        raise InputError(f"{advice} ({READ})")
    image, orientation = opener(file)
    if opener is not open_jpeg:  # its limits depend on the scale
        limits.check_memory(*image.size, PIXEL_BYTES.get(image.mode, 4))
    return image, orientation


def _opener(head: bytes) -> Callable[[BinaryIO], Opened] | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return open_webp
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n\v\f":
        return _open_plainly
    starts: dict[bytes, Callable[[BinaryIO], Opened]] = {
        b"\xff\xd8\xff": open_jpeg,
        b"\x89PNG\r\n\x1a\n": open_png,
        b"GIF87a": open_gif,
        b"GIF89a": open_gif,
        b"II*\0": open_tiff,
        b"MM\0*": open_tiff,
        b"BM": _open_plainly,
    }
    return next((starts[start] for start in starts if head.startswith(start)), None)


def _open_plainly(file: BinaryIO) -> Opened:
    """BMP and PPM, which have no metadata."""
    from PIL import Image

    size = file.seek(0, 2)
    file.seek(0)
    image = Image.open(file, formats=("BMP", "PPM"))
    decoder = image.tile[0][0] if getattr(image, "tile", ()) else ""
    width, height = image.size
    if decoder in _SLOW and (width * height > _SLOW_PIXELS or size > _SLOW_BYTES):
        raise InputError(
            f"{width} x {height} pixels in a slow form of {image.format} exceed the limit of "
            f"{_SLOW_PIXELS}; convert it to PNG"
        )
    return image, 1


def _known_kind(head: bytes) -> str:
    """The name of a format that is not read; "" if the bytes are of none that we know."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "AVIF" if brand in (b"avif", b"avis") else "HEIC" if brand[:3] in _HEIC else "video"
    starts = {
        b"%!PS": "EPS",
        b"\xc5\xd0\xd3\xc6": "EPS",
        b"%PDF": "PDF",
        b"\0\0\0\x0cjP  ": "JPEG 2000",
        b"\xff\x4f\xff\x51": "JPEG 2000",
        b"\xff\x0a": "JPEG XL",
        b"\0\0\0\x0cJXL ": "JPEG XL",
        b"8BPS": "PSD",
        b"<svg": "SVG",
        b"<?xml": "SVG",
        b"\0\0\1\0": "ICO",
        b"II+\0": "BigTIFF",
        b"MM\0+": "BigTIFF",
    }
    return next((starts[start] for start in starts if head.startswith(start)), "")


_HEIC = (b"hei", b"hev", b"mif", b"msf")
