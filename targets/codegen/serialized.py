"""Numbers and strings as TVM serialises modules: little endian, a string after its length."""

from __future__ import annotations

import struct
from collections.abc import Sequence

DLPACK_CODES = {"int": 0, "uint": 1, "float": 2, "handle": 3, "bool": 6}
DLPackType = tuple[int, int, int]
"""(code, bits, lanes)"""


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return u64(len(data)) + data


def types(items: Sequence[DLPackType]) -> bytes:
    return u64(len(items)) + b"".join(struct.pack("<BBH", *item) for item in items)


def strings(items: Sequence[str]) -> bytes:
    return u64(len(items)) + b"".join(map(string, items))
