"""Reads the header of a GGUF file: its metadata and the places of its tensors.

The `gguf` package trusts the counts in a file, so the header is read here: every count, length and
offset is checked before anything is allocated for it. No tensor data is read.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import InputError
from handglass.runtime.bundle.tensors import MAX_BYTES
from handglass.runtime.system.json_text import refuse_pointer
from handglass.runtime.system.regular_file import open_regular

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER = 64 << 20
"""Largest header in bytes; the vocabulary of Gemma, the largest known, takes 20 MB."""
MAX_KEYS = 4096
MAX_TENSORS = 1 << 16
MAX_ITEMS = 1 << 21
"""Most strings of a file; tokens and merges of Gemma are 0.8 million."""
MAX_STRING = 1 << 20
MAX_NAME = 256
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 16
ALIGNMENT = 32
STRING, ARRAY = 8, 9
SCALARS: Mapping[int, np.dtype[Any]] = {
    code: np.dtype(kind)
    for code, kind in {
        0: "<u1",
        1: "<i1",
        2: "<u2",
        3: "<i2",
        4: "<u4",
        5: "<i4",
        6: "<f4",
        7: "?",
        10: "<u8",
        11: "<i8",
        12: "<f8",
    }.items()
}
"""Type of a value -> its numpy type."""


@dataclass(frozen=True)
class Kind:
    """How values of a type are stored: blocks of `values` in `size` bytes."""

    name: str
    code: int
    values: int
    size: int


KINDS: Mapping[int, Kind] = {
    kind.code: kind
    for kind in (
        Kind("F32", 0, 1, 4),
        Kind("F16", 1, 1, 2),
        Kind("Q4_0", 2, 32, 18),
        Kind("Q4_1", 3, 32, 20),
        Kind("Q8_0", 8, 32, 34),
        Kind("Q4_K", 12, 256, 144),
        Kind("Q5_K", 13, 256, 176),
        Kind("Q6_K", 14, 256, 210),
        Kind("BF16", 30, 1, 2),
    )
}
"""The supported types of tensors."""


@dataclass(frozen=True)
class Place:
    """A tensor in the file; `shape` is as in numpy, the last size being a row."""

    name: str
    encoding: Kind
    shape: tuple[int, ...]
    start: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) // self.encoding.values * self.encoding.size


@dataclass(frozen=True)
class Header:
    """An open file."""

    path: Path
    metadata: Mapping[str, Any]
    """Numbers, strings, and lists of them (arrays of numbers stay numpy arrays)."""
    places: Mapping[str, Place]
    mapped: mmap.mmap


def read_header(path: Path) -> Header:
    """Map a file and read its header. Raises InputError if it is damaged or not supported."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(64)
            refuse_pointer(head, str(path))
            if head[:4] != MAGIC:
                raise InputError(
                    f"{path}: not a GGUF file; a checkpoint is a folder with config.json, "
                    "or a GGUF file"
                )
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return _Parser(path, mapped).header()


class _Parser:
    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self.path = path
        self.mapped = mapped
        self.at = len(MAGIC)
        self.items = 0
        self.end = min(len(mapped), MAX_HEADER)

    def header(self) -> Header:
        version = self.unpack("<I")
        if version not in VERSIONS:
            raise self.fault(
                f"version {version} is not supported; known: "
                f"{', '.join(map(str, VERSIONS))}, little-endian"
            )
        tensors = self.count(MAX_TENSORS, "tensors")
        keys = self.count(MAX_KEYS, "keys")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            name = self.text(MAX_NAME, "a key")
            if name in metadata:
                raise self.fault(f"the key {name!r} occurs twice")
            metadata[name] = self.value(name, self.unpack("<I"))
        places = [self.tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or not 8 <= alignment <= MAX_ALIGNMENT:
            raise self.fault(f"general.alignment is {alignment!r:.40}")
        if alignment & (alignment - 1):
            raise self.fault(f"general.alignment is {alignment}, which is not a power of two")
        return Header(self.path, metadata, self.placed(places, alignment), self.mapped)

    def fault(self, reason: str) -> InputError:
        return InputError(f"{self.path}: damaged GGUF file: {reason}")

    def take(self, size: int) -> bytes:
        """The next bytes. Nothing is allocated for a size beyond the header."""
        if size > self.end - self.at:
            limit = f"its limit of {MAX_HEADER}" if self.end == MAX_HEADER else "the file"
            raise self.fault(f"the header exceeds {limit} at byte {self.at}; truncated?")
        data = self.mapped[self.at : self.at + size]
        self.at += size
        return data

    def unpack(self, form: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def count(self, most: int, what: str) -> int:
        value = self.unpack("<Q")
        if value > most:
            raise self.fault(f"{value} {what} at byte {self.at - 8}; at most {most} are supported")
        return value

    def text(self, most: int, what: str) -> str:
        data = self.take(self.count(most, f"bytes in {what}"))
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self.fault(f"{what} at byte {self.at - len(data)} is not UTF-8") from None

    def value(self, name: str, code: int) -> Any:
        where = f"the value of {name!r}"
        if code == ARRAY:
            return self.array(where, self.unpack("<I"))
        if code == STRING:
            return self.text(MAX_STRING, where)
        return self.numbers(where, code, 1)[0].item()

    def array(self, where: str, code: int) -> Any:
        if code != STRING:
            return self.numbers(where, code, self.count(MAX_HEADER, f"items in {where}"))
        count = self.count(MAX_ITEMS - self.items, f"strings up to {where}")
        if count * 8 > self.end - self.at:
            raise self.fault(f"{where} has {count} strings, more than the file can hold")
        self.items += count
        return [self.text(MAX_STRING, where) for _ in range(count)]

    def numbers(self, where: str, code: int, count: int) -> np.ndarray:
        dtype = SCALARS.get(code)
        if dtype is None:
            raise self.fault(f"{where} has the unknown type {code}")
        data = self.take(count * dtype.itemsize)
        if dtype == np.bool_ and any(byte > 1 for byte in data):
            raise self.fault(f"{where} is neither true nor false")
        return np.frombuffer(data, dtype)

    def tensor(self) -> Place:
        name = self.text(MAX_NAME, "a tensor name")
        dimensions = self.unpack("<I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self.fault(f"the tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self.unpack("<Q") for _ in range(dimensions))[::-1]
        code, offset = self.unpack("<I"), self.unpack("<Q")
        if code not in KINDS:
            raise InputError(
                f"{self.path}: the tensor {name!r} has type {code}, which is not supported; known: "
                f"{', '.join(encoding.name for encoding in KINDS.values())}"
            )
        place = Place(name, KINDS[code], shape, offset)
        # Checked by size before they are multiplied; all of them are at least 1.
        if not all(1 <= size <= MAX_BYTES for size in shape) or math.prod(shape) > MAX_BYTES:
            raise self.fault(f"the shape of {name!r} is {shape}")
        if shape[-1] % place.encoding.values:
            raise self.fault(
                f"the rows of {name!r} have {shape[-1]} values, but blocks of "
                f"{place.encoding.name} have {place.encoding.values}"
            )
        return place

    def placed(self, places: list[Place], alignment: int) -> dict[str, Place]:
        """The tensors with their places in the file: inside it, without overlaps or gaps."""
        reached = start = _padded(self.at, alignment)
        found: dict[str, Place] = {}
        for place in sorted(places, key=lambda place: place.start):
            if place.name in found:
                raise self.fault(f"the tensor {place.name!r} occurs twice")
            if start + place.start != reached:
                raise self.fault(
                    f"the tensor {place.name!r} begins at byte {start + place.start}; expected "
                    f"{reached}, after the preceding data"
                )
            end = reached + place.nbytes
            if end > len(self.mapped):
                raise self.fault(
                    f"the tensor {place.name!r} ends at byte {end}, the file at "
                    f"{len(self.mapped)}; truncated?"
                )
            found[place.name] = Place(place.name, place.encoding, place.shape, reached)
            reached = _padded(end, alignment)
        if len(self.mapped) > max(reached, self.at):
            raise self.fault(f"the tensors end at byte {reached}, the file at {len(self.mapped)}")
        return found


def _padded(at: int, alignment: int) -> int:
    return -(-at // alignment) * alignment
