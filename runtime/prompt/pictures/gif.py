"""Reads the blocks before the first frame of a GIF: only those of the pixels are passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from . import limits
from .spans import parts_of

if TYPE_CHECKING:
    from PIL import Image

_EXTENSION, _CONTROL = b"\x21", b"\xf9"


def open_gif(file: BinaryIO) -> tuple[Image.Image, int]:
    """The first frame, not decoded yet, and the orientation 1. Raises InputError."""
    from PIL import GifImagePlugin

    file.seek(0)
    head = file.read(13).ljust(13, b"\0")
    table = 3 << ((head[10] & 7) + 1) if head[10] & 0x80 else 0
    parts, count = [(0, 13 + table)], 0
    file.seek(13 + table)
    while (block := file.read(1)) == _EXTENSION:
        start, is_control = file.tell() - 1, file.read(1) == _CONTROL
        while (size := file.read(1)) not in (b"", b"\0"):
            file.seek(size[0], 1)
            count += 1
            limits.check_blocks(count)
        if is_control:
            parts.append((start, file.tell()))
    parts.append((file.tell() - len(block), file.seek(0, 2)))
    return GifImagePlugin.GifImageFile(parts_of(file, parts)), 1
