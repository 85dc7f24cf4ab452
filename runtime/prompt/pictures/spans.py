"""A readable file made of parts of another one, without copying them.

Decoders see only the parts of a picture file that its pixels need. Metadata of any size, which
they would keep in memory, never reaches them.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import BinaryIO, cast


def parts_of(file: BinaryIO, parts: Iterable[tuple[int, int]]) -> BinaryIO:
    """The bytes of `parts`, pairs of (start, end) in `file`, in this order, as a file."""
    return cast("BinaryIO", _Spans(file, parts))


class _Spans(io.RawIOBase):
    def __init__(self, file: BinaryIO, parts: Iterable[tuple[int, int]]) -> None:
        self._file = file
        self._parts = _merged(parts)
        self._starts = [0, *accumulate(end - start for start, end in self._parts)]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}
        self._position = max(0, base[whence] + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes; fewer at the end only."""
        rest = max(0, self._starts[-1] - self._position)
        wanted = rest if size is None or size < 0 else min(size, rest)
        pieces = []
        while wanted and (piece := self._read_part(wanted)):
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def _read_part(self, size: int) -> bytes:
        index = bisect_right(self._starts, self._position) - 1
        start, end = self._parts[index]
        within = self._position - self._starts[index]
        self._file.seek(start + within)
        piece = self._file.read(min(size, end - start - within))
        self._position += len(piece)
        return piece


def _merged(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in parts:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        elif end > start:
            merged.append((start, end))
    return merged
