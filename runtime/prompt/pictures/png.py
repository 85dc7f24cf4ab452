"""Reads the chunks of a PNG file before it is decoded: only those of the pixels are passed on.

Of an animation the default picture is read. Text and profiles may unpack to far more than the file.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from handglass.errors import InputError

from . import limits
from .ifd import orientation, xmp_orientation
from .spans import parts_of

if TYPE_CHECKING:
    from PIL import Image

PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def open_png(file: BinaryIO) -> tuple[Image.Image, int]:
    """The picture, not decoded yet, and its orientation. Raises InputError beyond a limit."""
    from PIL import PngImagePlugin

    file.seek(8)
    parts, exif, xmp, count, size = [(0, 8)], 0, 0, 0, (0, 0)
    while len(head := file.read(8)) == 8:
        count += 1
        limits.check_blocks(count)
        length, kind = struct.unpack(">I4s", head)
        start = file.tell() - 8
        if kind == b"IHDR":
            size = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
            limits.check_pixels(*size)
        if kind == b"eXIf" and length <= 1 << 20:
            exif = orientation(file.read(length))
        if kind == b"iTXt" and length <= 1 << 20:
            xmp = xmp or xmp_orientation(file.read(length))
        if kind in PIXELS:
            parts.append((start, start + length + 12))
        elif not kind[0] & 32:
            raise InputError(f"its chunk {kind!r} is unknown")
        file.seek(start + length + 12)
    return PngImagePlugin.PngImageFile(parts_of(file, _within(file, parts))), exif or xmp or 1


def _within(file: BinaryIO, parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    size = file.seek(0, 2)
    return [(start, min(end, size)) for start, end in parts if start < size]
