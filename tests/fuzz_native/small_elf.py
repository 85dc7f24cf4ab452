"""Shared libraries of a few hundred bytes, made without a compiler."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import product

ARCHITECTURES = {"x86_64": 62, "aarch64": 183}  # e_machine
SHARED, LOAD, DYNAMIC, READABLE = 3, 1, 2, 4  # ET_DYN, PT_LOAD, PT_DYNAMIC, PF_R
HASH = 4  # DT_HASH
TABLES = {
    "names": (5, 10),  # DT_STRTAB, DT_STRSZ
    "symbols": (6, None),  # DT_SYMTAB; the hash table says how many
    "relocations": (7, 8),  # DT_RELA, DT_RELASZ
    "jumps": (23, 2),  # DT_JMPREL, DT_PLTRELSZ
    "relative": (36, 35),  # DT_RELR, DT_RELRSZ
    "initialisers": (25, 27),  # DT_INIT_ARRAY, DT_INIT_ARRAYSZ
}
"""Table -> the tags of its address and of its size."""
OUTSIDE = (2**64 - 8, 2**63)
"""Addresses that overflow when the place of the library is added, as clang and as GCC count: for
clang a large offset wraps around, GCC takes it as negative."""


def empty_tables(machine: str) -> dict[str, bytes]:
    """Libraries with an empty table outside their segments, by the name of the table and its place.

    They are valid: nothing is read from the table. The fuzzer once found a loader that computed the
    pointer nevertheless, which is undefined.
    """
    made = {}
    for (name, (address, size)), place in product(TABLES.items(), OUTSIDE):
        entries = [(address, place)] + ([(size, 0)] if size is not None else [])
        made[f"{name} at {place:x}"] = small_library(machine, entries)
    return made


def small_library(machine: str, entries: Sequence[tuple[int, int]]) -> bytes:
    """A library without symbols whose dynamic section has these tags and values."""
    start = 64 + 2 * 56  # behind the headers
    end = start + 16 * (len(entries) + 2)
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in (*entries, (HASH, end), (0, 0)))
    content = dynamic + struct.pack("<II", 0, 0)  # a hash table: no buckets, no symbols
    size = start + len(content)
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")  # 64 bits, little-endian
    head = struct.pack("<HHIQQQI", SHARED, ARCHITECTURES[machine], 1, 0, 64, 0, 0)
    head += struct.pack("<HHHHHH", 64, 56, 2, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", LOAD, READABLE, 0, 0, 0, size, size, 4096)
    tables = struct.pack(
        "<IIQQQQQQ", DYNAMIC, READABLE, start, start, start, len(dynamic), len(dynamic), 8
    )
    return identity + head + segment + tables + content
