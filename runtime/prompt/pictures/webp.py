"""Reads the chunks of a WebP file before it is decoded.

The decoder holds two canvases, a copy of the frame and the whole file.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from handglass.errors import InputError

from . import limits
from .ifd import orientation, xmp_orientation

if TYPE_CHECKING:
    from PIL import Image

PIXEL_BYTES = 16
FILE_BYTES = 32 << 20


def open_webp(file: BinaryIO) -> tuple[Image.Image, int]:
    """The picture, not decoded yet, and its orientation. Raises InputError beyond a limit."""
    from PIL import WebPImagePlugin

    size = file.seek(0, 2)
    if size > FILE_BYTES:
        raise InputError(f"{size} bytes of WebP, the limit is {FILE_BYTES}; convert it to JPEG")
    file.seek(0)
    width, height = _canvas(file.read(30).ljust(30, b"\0"))
    file.seek(0)
    limits.check_pixels(width, height)
    needed = limits.decoded_bytes(width, height, PIXEL_BYTES) + 2 * size
    if needed > limits.MEMORY:
        raise InputError(
            f"{width} x {height} pixels of WebP need {needed / 1e6:.0f} MB to decode, the limit "
            f"is {limits.MEMORY / 1e6:.0f} MB; resize the picture, or convert it to JPEG"
        )
    image = WebPImagePlugin.WebPImageFile(file)
    stated = orientation(image.info.get("exif", b""))
    return image, stated or xmp_orientation(image.info.get("xmp", b"")) or 1


def _canvas(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        wide, high = head[24:27] + b"\0", head[27:30] + b"\0"
        return struct.unpack("<I", wide)[0] + 1, struct.unpack("<I", high)[0] + 1
    if kind == b"VP8L":
        bits = struct.unpack("<I", head[21:25])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", head[26:30])
    return width & 0x3FFF, height & 0x3FFF
