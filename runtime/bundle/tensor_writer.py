"""Writes safetensors files tensor by tensor, using only numpy.

Tensors are laid out so that they are 64-byte aligned in a memory map of the file where possible,
as compiled code requires.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np

from handglass.errors import DeviceError, MismatchError

from .tensors import ALIGNMENT, CODES, TensorPlace, TensorSpec, storage_dtype


class TensorWriter:
    """Write a safetensors file tensor by tensor, in any order, holding a part of one at a time.

    As a context manager it closes the file at the end, or removes it on an error. `specs` lists
    (name, shape, dtype) of every tensor. Raises DeviceError if the file cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], specs: Iterable[tuple[str, tuple[int, ...], str]]
    ) -> None:
        self.path = Path(path)
        self._entries = _layout(self.path, [TensorSpec(n, tuple(s), d) for n, s, d in specs])
        self._missing = set(self._entries)
        self._rows: dict[str, int] = {}
        """Rows that were written of the tensors that are not complete."""
        header = _header(self._entries.values())
        self._data_start = 8 + len(header)
        end = max((entry.stop for entry in self._entries.values()), default=0)
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        except OSError as error:
            raise DeviceError(f"{self.path}: cannot write: {error.strerror}") from error
        self._pwrite(len(header).to_bytes(8, "little") + header, 0)
        try:
            os.ftruncate(self._fd, self._data_start + end)
        except OSError as error:  # too large for the file system
            raise DeviceError(f"{self.path}: cannot write: {error.strerror}") from error

    def write(self, name: str, array: np.ndarray, first: int = 0) -> None:
        """Store one tensor of the declared shape and dtype (bfloat16: uint16 bit patterns), or its
        rows from `first` on, which must follow those that are written.

        Raises MismatchError for an undeclared tensor, another shape or dtype, other rows than the
        next ones, or a second write.
        """
        if name not in self._missing:
            state = "is already written" if name in self._entries else "is not declared"
            raise MismatchError(f"{self.path}: tensor {name!r} {state}")
        entry = self._entries[name]
        dtype = storage_dtype(entry.spec.dtype)
        if array.dtype.name == "bfloat16":  # ml_dtypes, if the caller has it
            array = array.view(np.uint16)
        if not self._is_next(entry.spec, array.shape, first) or array.dtype != dtype:
            rows = f" as rows from {first} on" if first else ""
            raise MismatchError(
                f"{self.path}: tensor {name!r} is declared as {entry.spec.dtype} "
                f"{entry.spec.shape}, got {array.dtype} {array.shape}{rows}"
            )
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        skipped = first * (entry.spec.nbytes // entry.spec.shape[0]) if first else 0
        self._pwrite(data.data, self._data_start + entry.start + skipped)
        self._rows[name] = first + (array.shape[0] if array.shape else 1)
        if array.shape == entry.spec.shape or self._rows[name] == entry.spec.shape[0]:
            self._missing.remove(name)

    def _is_next(self, spec: TensorSpec, shape: tuple[int, ...], first: int) -> bool:
        """Whether these are the whole tensor, or its next rows."""
        if first != self._rows.get(spec.name, 0):
            return False
        if shape == spec.shape or not shape or not spec.shape:
            return shape == spec.shape and not first
        return shape[1:] == spec.shape[1:] and first + shape[0] <= spec.shape[0]

    def close(self) -> None:
        """Close the file. Raises MismatchError if a declared tensor was not written."""
        self._close_fd()
        if self._missing:
            raise MismatchError(
                f"{self.path}: {len(self._missing)} declared tensor(s) not written, "
                f"first {min(self._missing)!r}"
            )

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._close_fd()
            self.path.unlink(missing_ok=True)

    def _close_fd(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _pwrite(self, data: bytes | memoryview, offset: int) -> None:
        view = memoryview(data)
        while len(view):
            try:
                done = os.pwrite(self._fd, view, offset)  # at most 2 GB in one call on Linux
            except OSError as error:
                raise DeviceError(f"{self.path}: cannot write: {error.strerror}") from error
            view, offset = view[done:], offset + done


def file_size(specs: Iterable[tuple[str, tuple[int, ...], str]]) -> int:
    """The bytes of the file that a TensorWriter writes for these specs."""
    entries = _layout(Path(), [TensorSpec(n, tuple(s), d) for n, s, d in specs]).values()
    return 8 + len(_header(entries)) + max((entry.stop for entry in entries), default=0)


def _layout(path: Path, specs: list[TensorSpec]) -> dict[str, TensorPlace]:
    """Offsets into the data. Tensors of a multiple of 64 bytes come first, so they are aligned."""
    entries: dict[str, TensorPlace] = {}
    reached = 0
    for spec in sorted(specs, key=lambda spec: spec.nbytes % ALIGNMENT != 0):
        if spec.name in entries or spec.name == "__metadata__":
            raise MismatchError(f"{path}: tensor {spec.name!r} is declared twice or reserved")
        entries[spec.name] = TensorPlace(spec, reached, reached + spec.nbytes)
        reached += spec.nbytes
    return entries


def _header(entries: Iterable[TensorPlace]) -> bytes:
    table = {
        spec.name: {"dtype": CODES[spec.dtype], "shape": spec.shape, "data_offsets": [start, stop]}
        for spec, start, stop in entries
    }
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-(8 + len(text)) % ALIGNMENT)
