"""Reads the blocks of an animation before it is decoded: how long each frame is shown.

Only the blocks that pixels and times need are passed on to the decoder: it would keep metadata of
any size, and join that of a GIF byte by byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from handglass.errors import InputError

from ..pictures import limits
from ..pictures.png import PIXELS
from ..pictures.spans import parts_of

MAX_FRAMES = 100_000
MAX_BLOCKS = 2_000_000
"""Of a GIF; 256 MB of full ones are a million."""
DEFAULT_MS = 100.0
"""For a frame without a time, or with one so short that no viewer shows it."""
SHORTEST_MS = 20.0
_EXTENSION, _FRAME, _CONTROL = b"\x21", b"\x2c", b"\xf9"


class Timed(NamedTuple):
    """The parts of a file that a decoder needs, and the milliseconds of each frame."""

    file: BinaryIO
    durations: list[float]
    size: tuple[int, int] | None = None
    """Width and height, if they are to be checked before the decoder sees the file."""


def gif_timing(file: BinaryIO) -> Timed:
    """The blocks of a GIF. Raises InputError beyond a limit."""
    length = file.seek(0, 2)
    file.seek(0)
    head = file.read(13).ljust(13, b"\0")
    size, end = struct.unpack("<6xHH3x", head), 13 + _table_bytes(head[10])
    parts, durations, shown, blocks = [(0, end)], list[float](), 0.0, 0
    file.seek(end)
    while (block := file.read(1)) in (_EXTENSION, _FRAME):
        start, label = file.tell() - 1, b""
        if block == _EXTENSION:
            label = file.read(1)
            if label == _CONTROL:
                shown = 10.0 * struct.unpack("<xxHxx", file.read(6).ljust(6, b"\0"))[0]
                file.seek(-6, 1)
        else:
            _count(durations, shown)
            left, top, width, height, flags = struct.unpack("<HHHHB", file.read(9).ljust(9, b"\0"))
            size = max(size[0], left + width), max(size[1], top + height)  # as the decoder does
            file.seek(_table_bytes(flags) + 1, 1)
            shown = 0.0
        blocks += _skip_blocks(file)
        if blocks > MAX_BLOCKS:
            raise InputError(f"has more than {MAX_BLOCKS} blocks; convert it to WebP")
        if label in (b"", _CONTROL):
            parts.append((start, min(file.tell(), length)))
    parts.append((file.tell() - len(block), length))
    return Timed(parts_of(file, parts), durations, size)


def _table_bytes(flags: int) -> int:
    """Bytes of the table of colours that a GIF has at this place."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(file: BinaryIO) -> int:
    """Skip the data of a block; returns the number of its parts."""
    count = 0
    while (length := file.read(1)) not in (b"", b"\0"):
        file.seek(length[0], 1)
        count += 1
    return count


def _count(durations: list[float], milliseconds: float) -> None:
    if len(durations) == MAX_FRAMES:
        raise InputError(f"has more than {MAX_FRAMES} frames; cut it into shorter ones")
    durations.append(milliseconds if milliseconds >= SHORTEST_MS else DEFAULT_MS)


def png_timing(file: BinaryIO) -> Timed:
    """The chunks of an animated PNG. Raises InputError beyond a limit."""
    end, size = file.seek(0, 2), (0, 0)
    parts, durations = [(0, 8)], list[float]()
    for place, length, kind in _chunks(file, 8, ">I4s"):
        if kind == b"IHDR":
            width, height = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
            size = max(size[0], width), max(size[1], height)  # one of several is the decoder's
        if kind == b"fcTL":
            top, bottom = struct.unpack(">20xHH2x", file.read(26).ljust(26, b"\0"))
            _count(durations, 1000.0 * top / (bottom or 100))
        if kind in (*PIXELS, b"acTL", b"fcTL", b"fdAT"):
            parts.append((place, min(place + length + 12, end)))
        file.seek(place + length + 12)
    return Timed(parts_of(file, parts), durations, size)


def webp_timing(file: BinaryIO) -> Timed:
    """The chunks of an animated WebP. Raises InputError beyond a limit."""
    durations = list[float]()
    for place, length, kind in _chunks(file, 12, "<4sI"):
        if kind == b"ANMF":
            head = file.read(16).ljust(16, b"\0")
            _count(durations, float(int.from_bytes(head[12:15], "little")))
        file.seek(place + length + length % 2 + 8)
    return Timed(file, durations)


def _chunks(file: BinaryIO, start: int, form: str) -> Iterator[tuple[int, int, bytes]]:
    """(place, length, kind) of each chunk; the caller seeks to the next one."""
    file.seek(start)
    count = 0
    while len(head := file.read(8)) == 8:
        count += 1
        limits.check_blocks(count)
        one, other = struct.unpack(form, head)
        length, kind = (one, other) if isinstance(one, int) else (other, one)
        yield file.tell() - 8, length, kind
