"""Reads image file directories, the tag tables of TIFF files and of EXIF data.

Entries may point anywhere, also at the same bytes: a table of 65,535 entries can refer to a file of
1 MB 65,535 times. The sum of what they refer to is limited before a decoder reads it.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from handglass.errors import InputError

ORIENTATION = 0x0112
_SUB_TABLES = (0x8769, 0x8825, 0xA005)  # EXIF, GPS, interoperability
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_NUMBER_BYTES = 1 << 20  # arrays of numbers, such as offsets of strips, grow when they are parsed
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I"}
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
ENTRIES = 1024


@dataclass(frozen=True)
class Entry:
    tag: int
    kind: int
    count: int
    value: bytes  # the four bytes of the entry: the value, or its offset
    order: str  # "<" or ">"

    @property
    def size(self) -> int:
        return self.count * _SIZES.get(self.kind, 1)

    def numbers(self, file: BinaryIO, most: int = 16) -> tuple[int, ...]:
        """The first values of an integer entry; empty for other types."""
        code = _INTEGERS.get(self.kind)
        if code is None:
            return ()
        count = min(self.count, most)
        data = self.value
        if self.size > 4:
            file.seek(struct.unpack(self.order + "I", self.value)[0])
            data = file.read(count * _SIZES[self.kind])
        if len(data) < count * _SIZES[self.kind]:
            return ()
        return struct.unpack_from(f"{self.order}{count}{code}", data)


def read_table(file: BinaryIO, offset: int, order: str) -> Iterator[Entry]:
    """The entries of the table at `offset`. Raises InputError if there are too many."""
    file.seek(offset)
    head = file.read(2)
    count = struct.unpack(order + "H", head)[0] if len(head) == 2 else 0
    if count > ENTRIES:
        raise InputError(f"a tag table has {count} entries, the limit is {ENTRIES}")
    data = file.read(12 * count)
    for position in range(0, len(data) - 11, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, position)
        yield Entry(tag, kind, number, data[position + 8 : position + 12], order)


def byte_order(head: bytes) -> str | None:
    """ "<" or ">" by the first four bytes of a TIFF file; None if they are not of one."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])


def first_table(file: BinaryIO) -> list[Entry]:
    """The entries of the first table of a TIFF file or EXIF data; empty if there is none."""
    file.seek(0)
    head = file.read(8)
    order = byte_order(head)
    if order is None or len(head) < 8:
        return []
    return list(read_table(file, struct.unpack(order + "I", head[4:])[0], order))


def check_sizes(file: BinaryIO, entries: list[Entry], limit: int, depth: int = 2) -> int:
    """The bytes that a table and its sub-tables refer to. Raises InputError above `limit`."""
    total = sum(entry.size for entry in entries)
    numbers = sum(entry.size for entry in entries if entry.kind not in (1, 2, 6, 7))
    if total > limit or numbers > _NUMBER_BYTES:
        raise InputError(f"its tags hold {total} bytes, the limit is {limit}; save it as PNG")
    for entry in entries:
        if depth and entry.tag in _SUB_TABLES and (offsets := entry.numbers(file)):
            table = list(read_table(file, offsets[0], entry.order))
            total += check_sizes(file, table, limit - total, depth - 1)
    return total


def orientation(exif: bytes) -> int:
    """The orientation 1 to 8 that EXIF data states; 0 where it states none or is damaged."""
    data = io.BytesIO(exif.removeprefix(b"Exif\0\0"))
    try:
        entries = first_table(data)
    except InputError:
        return 0
    for entry in entries:
        if entry.tag == ORIENTATION and (value := entry.numbers(data)):
            return value[0] if 1 <= value[0] <= 8 else 0
    return 0


def xmp_orientation(xmp: bytes) -> int:
    """The orientation 1 to 8 that an XMP packet states; 0 where it states none."""
    match = _XMP_ORIENTATION.search(xmp)
    return int(match[1]) if match else 0
