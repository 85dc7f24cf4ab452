"""Safetensors files with numpy and mmap only: a strict reader that trusts nothing in the header.

bfloat16 has no numpy type: its values are handed over as uint16 bit patterns.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from handglass.errors import InputError

ALIGNMENT = 64
MAX_HEADER = 100_000_000  # the limit of the format's own library

# safetensors spelling -> (our spelling, numpy type of the stored elements)
DTYPES: Mapping[str, tuple[str, np.dtype[Any]]] = {
    "BOOL": ("bool", np.dtype(np.bool_)),
    "U8": ("uint8", np.dtype("<u1")),
    "I8": ("int8", np.dtype("<i1")),
    "U16": ("uint16", np.dtype("<u2")),
    "I16": ("int16", np.dtype("<i2")),
    "U32": ("uint32", np.dtype("<u4")),
    "I32": ("int32", np.dtype("<i4")),
    "U64": ("uint64", np.dtype("<u8")),
    "I64": ("int64", np.dtype("<i8")),
    "F16": ("float16", np.dtype("<f2")),
    "BF16": ("bfloat16", np.dtype("<u2")),
    "F32": ("float32", np.dtype("<f4")),
    "F64": ("float64", np.dtype("<f8")),
}
CODES = {name: code for code, (name, _) in DTYPES.items()}


class TensorSpec(NamedTuple):
    """What a tensor is, before its values are known; `dtype` is numpy's spelling or `bfloat16`."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * storage_dtype(self.dtype).itemsize


class TensorPlace(NamedTuple):
    """Where a tensor's bytes are."""

    spec: TensorSpec
    start: int  # byte offset in the file
    stop: int


def storage_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy type that holds values of `dtype` ("bfloat16" is held as uint16)."""
    if dtype not in CODES:
        raise InputError(f"tensor type {dtype!r} is unknown; known: {', '.join(sorted(CODES))}")
    return DTYPES[CODES[dtype]][1]


def untouched_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros that take memory page by page as they are written, for what may never be filled.

    numpy's own zeros ask for pages of 2 MB: with them 71 tokens in the cache of 4,096 took 212 MB
    instead of 10.
    """
    dtype = np.dtype(dtype)
    # private: a child process that is forked must not write into its parent's
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    mapped = mmap.mmap(-1, max(math.prod(shape) * dtype.itemsize, 1), kind)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without large pages
            mapped.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(mapped, dtype, math.prod(shape)).reshape(shape)


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A fresh array whose data starts at a multiple of 64 bytes; numpy alone promises 16."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    skip = -raw.ctypes.data % ALIGNMENT
    return raw[skip : skip + nbytes].view(dtype).reshape(shape)


def aligned(array: np.ndarray) -> np.ndarray:
    """`array` itself if it is contiguous, writable and 64-byte aligned, else a copy that is."""
    flags = array.flags  # DLPack cannot express read-only memory
    if flags.c_contiguous and flags.writeable and array.ctypes.data % ALIGNMENT == 0:
        return array
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


class TensorFile:
    """A safetensors file, mapped: `array(name)` is a view, nothing is read before it is used."""

    def __init__(self, path: Path, entries: Mapping[str, TensorPlace], mapped: mmap.mmap) -> None:
        self.path = path
        self._entries = entries
        self._mapped = mapped

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TensorFile:
        path = Path(path)
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                header, start = _read_header(path, file, size)
                # ACCESS_COPY: numpy and DLPack want writable memory, the file must stay as it is.
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
        return cls(path, _parse_header(path, header, start, size), mapped)

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the data."""
        return tuple(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def spec(self, name: str) -> TensorSpec:
        if name not in self._entries:
            raise InputError(f"{self.path}: there is no tensor {name!r}")
        return self._entries[name].spec

    def shape(self, name: str) -> tuple[int, ...]:
        return self.spec(name).shape

    def dtype(self, name: str) -> str:
        return self.spec(name).dtype

    def array(self, name: str) -> np.ndarray:
        """A view of the mapping; uint16 bit patterns for bfloat16."""
        spec = self.spec(name)
        dtype = storage_dtype(spec.dtype)
        if spec.nbytes == 0:
            return np.empty(spec.shape, dtype)
        return np.ndarray(spec.shape, dtype, buffer=self._mapped, offset=self._entries[name].start)

    def drop_cached(self, name: str) -> None:
        """Give back the memory that reading a tensor took; reading it again costs that again.

        For tensors that nobody has written to: those pages would be lost.
        """
        entry = self._entries[name]
        start = -(-entry.start // mmap.PAGESIZE) * mmap.PAGESIZE  # only what is its alone
        stop = entry.stop // mmap.PAGESIZE * mmap.PAGESIZE
        if stop > start and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED, start, stop - start)


def _read_header(path: Path, file: Any, size: int) -> tuple[bytes, int]:
    prefix = file.read(8)
    if len(prefix) < 8:
        raise InputError(f"{path}: {size} bytes is too short for a safetensors file")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER or 8 + length > size:
        raise InputError(
            f"{path}: header length {length} does not fit a file of {size} bytes "
            f"(limit {MAX_HEADER}); not a safetensors file, or cut off"
        )
    return file.read(length), 8 + length


def _parse_header(path: Path, header: bytes, start: int, size: int) -> dict[str, TensorPlace]:
    try:
        table = json.loads(header.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: the header is not valid JSON: {error}") from error
    if not isinstance(table, dict):
        raise InputError(f"{path}: the header is a JSON {type(table).__name__}, not an object")
    table.pop("__metadata__", None)
    entries = [_parse_entry(path, name, value, start) for name, value in table.items()]
    entries.sort(key=lambda entry: (entry.start, entry.stop))
    _check_coverage(path, entries, start, size)
    return {entry.spec.name: entry for entry in entries}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"{name!r} occurs twice")
        table[name] = value
    return table


def _parse_entry(path: Path, name: str, value: Any, start: int) -> TensorPlace:
    where = f"{path}: tensor {name!r}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise InputError(f"{where}: expected dtype, shape and data_offsets, found {value!r:.200}")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise InputError(f"{where}: dtype {code!r} is unknown; known: {', '.join(DTYPES)}")
    if not _is_sizes(shape):
        raise InputError(f"{where}: shape {shape!r:.200} is not a list of sizes")
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise InputError(f"{where}: data_offsets {offsets!r:.200} is not [begin, end]")
    spec = TensorSpec(name, tuple(shape), DTYPES[code][0])
    if spec.nbytes != offsets[1] - offsets[0]:
        raise InputError(
            f"{where}: shape {shape} of {code} needs {spec.nbytes} bytes, "
            f"data_offsets {offsets} hold {offsets[1] - offsets[0]}"
        )
    return TensorPlace(spec, start + offsets[0], start + offsets[1])


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_coverage(path: Path, entries: list[TensorPlace], start: int, size: int) -> None:
    """The tensors must tile the data without overlap or hole, up to the last byte."""
    reached = start
    for entry in entries:
        if entry.start != reached:
            kind = "overlaps the one before it" if entry.start < reached else "leaves a hole"
            raise InputError(
                f"{path}: tensor {entry.spec.name!r} {kind}: it begins at byte {entry.start}, "
                f"the data so far ends at {reached}"
            )
        reached = entry.stop
    if reached != size:
        raise InputError(f"{path}: the tensors end at byte {reached}, the file at {size}")
