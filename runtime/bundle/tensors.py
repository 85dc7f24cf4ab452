"""Reads safetensors files using only numpy and mmap, validating every field of the header.

numpy has no bfloat16 type: its values are returned as uint16 bit patterns.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from handglass.errors import InputError

from ..system.json_text import parse_json, refuse_pointer
from ..system.regular_file import open_regular

ALIGNMENT = 64
MAX_HEADER = 8 << 20
"""Largest header in bytes: 70,000 tensors. The format's own library allows 100 MB, which can take
2.5 GB of Python objects."""
MAX_DIMENSIONS = 16
MAX_BYTES = 1 << 47
"""Most bytes of a tensor: the address space of a process."""
SHAPES = f"at most {MAX_DIMENSIONS} sizes, none negative, and {MAX_BYTES} bytes"
"""What `fits` requires, for messages."""

# safetensors code -> (dtype name in this project, numpy type of the stored elements)
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
    """Name, shape and dtype of a tensor; `dtype` is a numpy name or `bfloat16`."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * storage_dtype(self.dtype).itemsize


class TensorPlace(NamedTuple):
    """Where the bytes of a tensor are in the file."""

    spec: TensorSpec
    start: int  # byte offset in the file
    stop: int


def storage_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy type that stores values of `dtype` (uint16 for "bfloat16").

    Raises InputError for an unknown dtype.
    """
    if dtype not in CODES:
        raise InputError(f"tensor type {dtype!r} is unknown; known: {', '.join(sorted(CODES))}")
    return DTYPES[CODES[dtype]][1]


def fits(shape: tuple[int, ...], dtype: str) -> bool:
    """Whether an array of this shape can exist.

    A size of 0 does not excuse the others: numpy refuses (0, 2^63).
    """
    if len(shape) > MAX_DIMENSIONS or any(not 0 <= size <= MAX_BYTES for size in shape):
        return False
    nbytes = math.prod(max(size, 1) for size in shape) * storage_dtype(dtype).itemsize
    return nbytes <= MAX_BYTES


def untouched_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A zero array whose pages are allocated on first write, for buffers that may stay empty.

    numpy's zeros use 2 MB pages: with them, 71 tokens in a cache of 4,096 positions took 212 MB
    instead of 10 MB.
    """
    dtype = np.dtype(dtype)
    # Private: a forked child must not write into its parent's array.
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    mapped = mmap.mmap(-1, max(math.prod(shape) * dtype.itemsize, 1), kind)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a Linux kernel without huge pages
            mapped.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(mapped, dtype, math.prod(shape)).reshape(shape)


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialized array aligned to 64 bytes; numpy guarantees only 16."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    skip = -raw.ctypes.data % ALIGNMENT
    return raw[skip : skip + nbytes].view(dtype).reshape(shape)


def aligned(array: np.ndarray) -> np.ndarray:
    """`array` itself if it is C-contiguous, writable and 64-byte aligned; otherwise such a copy."""
    flags = array.flags  # DLPack cannot express read-only memory
    if flags.c_contiguous and flags.writeable and array.ctypes.data % ALIGNMENT == 0:
        return array
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


class TensorFile:
    """A memory-mapped safetensors file; `array(name)` is a view, read from disk on first use."""

    def __init__(self, path: Path, entries: Mapping[str, TensorPlace], mapped: mmap.mmap) -> None:
        self.path = path
        self._entries = entries
        self._mapped = mapped

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TensorFile:
        """Map the file. Raises InputError if it cannot be read or its header is invalid."""
        path = Path(path)
        try:
            with open_regular(path) as file:
                return cls.map(path, file)
        except OSError as error:
            raise InputError(f"{path}: cannot read: {error.strerror or error}") from error

    @classmethod
    def map(cls, path: Path, file: BinaryIO) -> TensorFile:
        """Map an open file, which may be closed afterwards. `path` names it in errors.

        Raises OSError if it cannot be read, InputError if its header is invalid.
        """
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        header, start = _read_header(path, file, size)
        # ACCESS_COPY: numpy and DLPack need writable memory; the file stays unchanged.
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        return cls(path, _parse_header(path, header, start, size), mapped)

    @property
    def names(self) -> tuple[str, ...]:
        """Tensor names, in file order."""
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
        """A view of the mapped data; uint16 bit patterns for bfloat16."""
        spec = self.spec(name)
        dtype = storage_dtype(spec.dtype)
        if spec.nbytes == 0:
            return np.empty(spec.shape, dtype)
        return np.ndarray(spec.shape, dtype, buffer=self._mapped, offset=self._entries[name].start)

    def drop_cached(self, name: str) -> None:
        """Release the resident pages of a tensor; the next access reads them again.

        Only for tensors that have not been modified: the call discards modified pages.
        """
        entry = self._entries[name]
        start = -(-entry.start // mmap.PAGESIZE) * mmap.PAGESIZE  # whole pages only
        stop = entry.stop // mmap.PAGESIZE * mmap.PAGESIZE
        if stop > start and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED, start, stop - start)


def _read_header(path: Path, file: Any, size: int) -> tuple[bytes, int]:
    prefix = file.read(8)
    if len(prefix) < 8:
        raise InputError(f"{path}: {size} bytes is too short for a safetensors file")
    refuse_pointer(prefix + file.read(64), str(path))
    file.seek(len(prefix))
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER or 8 + length > size:
        raise InputError(
            f"{path}: header length {length} does not fit a file of {size} bytes "
            f"(limit {MAX_HEADER}); not a safetensors file, or truncated"
        )
    return file.read(length), 8 + length


def _parse_header(path: Path, header: bytes, start: int, size: int) -> dict[str, TensorPlace]:
    table = parse_json(header, f"{path}: the header", MAX_HEADER)
    if not isinstance(table, dict):
        raise InputError(f"{path}: the header is a JSON {type(table).__name__}, not an object")
    table.pop("__metadata__", None)
    entries = [_parse_entry(path, name, value, start) for name, value in table.items()]
    entries.sort(key=lambda entry: (entry.start, entry.stop))
    _check_coverage(path, entries, start, size)
    return {entry.spec.name: entry for entry in entries}


def _parse_entry(path: Path, name: str, value: Any, start: int) -> TensorPlace:
    where = f"{path}: tensor {name[:200]!r}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise InputError(f"{where}: expected dtype, shape and data_offsets, found {value!r:.200}")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise InputError(f"{where}: dtype {code!r:.100} is unknown; known: {', '.join(DTYPES)}")
    if not _is_sizes(shape):
        raise InputError(f"{where}: shape {shape!r:.200} is not a list of sizes")
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise InputError(f"{where}: data_offsets {offsets!r:.200} is not [begin, end]")
    spec = TensorSpec(name, tuple(shape), DTYPES[code][0])
    if not fits(spec.shape, spec.dtype):
        raise InputError(f"{where}: shape is {shape!r:.200}, but must have {SHAPES}")
    if spec.nbytes != offsets[1] - offsets[0]:
        raise InputError(
            f"{where}: shape {shape} of {code} needs {spec.nbytes} bytes, "
            f"data_offsets {offsets} hold {offsets[1] - offsets[0]}"
        )
    return TensorPlace(spec, start + offsets[0], start + offsets[1])


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_coverage(path: Path, entries: list[TensorPlace], start: int, size: int) -> None:
    """Check that the tensors cover the data, up to the last byte, without overlaps or gaps."""
    reached = start
    for entry in entries:
        if entry.start != reached:
            kind = "overlaps the previous one" if entry.start < reached else "leaves a gap"
            name = entry.spec.name[:200]
            raise InputError(
                f"{path}: tensor {name!r} {kind}: it begins at byte {entry.start}, "
                f"the preceding data ends at {reached}"
            )
        reached = entry.stop
    if reached != size:
        raise InputError(f"{path}: the tensors end at byte {reached}, the file at {size}")
