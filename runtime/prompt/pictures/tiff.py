"""Reads the first tag table of a TIFF file before it is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from handglass.errors import InputError

from . import limits
from .ifd import ORIENTATION, Entry, check_sizes, first_table

if TYPE_CHECKING:
    from PIL import Image

WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES = 256, 257, 258, 259, 277
TILE_WIDTH, TILE_HEIGHT = 322, 323
# None, CCITT, LZW, JPEG, deflate, packed bits. Others unpack with buffers of unknown size.
COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)


def open_tiff(file: BinaryIO) -> tuple[Image.Image, int]:
    """The first page, not decoded yet, and 1: its orientation is read once it is decoded."""
    from PIL import TiffImagePlugin

    entries = first_table(file)
    if not entries:
        raise InputError("its first tag table cannot be read (BigTIFF is not supported)")
    check_sizes(file, entries, limits.METADATA_BYTES)
    _check_tags(_Tags(file, entries))
    file.seek(0)
    return TiffImagePlugin.TiffImageFile(file), 1


class _Tags:
    def __init__(self, file: BinaryIO, entries: list[Entry]) -> None:
        self._entries = {entry.tag: entry.numbers(file) for entry in reversed(entries)}

    def __call__(self, tag: int, default: int) -> int:
        return max(self._entries.get(tag) or (default,))


def _check_tags(tag: _Tags) -> None:
    if (compression := tag(COMPRESSION, 1)) not in COMPRESSIONS:
        raise InputError(f"TIFF compression {compression} is not supported; save it as PNG")
    pixel = tag(SAMPLES, 1) * tag(BITS, 1) / 8  # as stored, for a strip of the whole picture
    copies = 2 if tag(ORIENTATION, 1) > 1 else 1
    whole = 1 if pixel <= 1 else 4
    strip = pixel if compression != 1 else 0  # it is freed before the picture is turned
    limits.check_memory(tag(WIDTH, 0), tag(HEIGHT, 0), max(whole + strip, whole * copies))
    if tag(TILE_WIDTH, 0):
        limits.check_memory(tag(TILE_WIDTH, 0), tag(TILE_HEIGHT, 0), pixel)
