"""The journal beside an index that is being made: what is ready survives the end of the process.

Its first line says what the rows are made of; each other line is one picture, written when its row
is ready. A line that the end of the process has cut is dropped, with all after it. Rows stay in the
file until the index is written. While the journal is open, it is locked, so that no second process
makes the same index.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import DeviceError, UsageError

from .index_file import HASH_BYTES, About, Entry, is_plain, is_short

MAX_LINE = 1 << 22


class Journal:
    """A context manager; `finish` removes the file, otherwise the next run continues it. One
    without rows is not left."""

    def __init__(self, index: Path) -> None:
        """Raises UsageError if another process makes the index, DeviceError if the file cannot be
        written."""
        self.path = index.with_name(f"{index.name}.journal")
        self.ready: dict[str, tuple[Entry, int]] = {}
        """Name -> its entry, and where its line is, for `row`."""
        try:
            while not self._locked():
                self._file.close()
            self._reader = self.path.open("rb")
            self._has_rows = os.fstat(self._reader.fileno()).st_size > 0
        except BlockingIOError as error:
            self._file.close()
            raise UsageError(f"{index}: another process is making this index") from error
        except OSError as error:
            raise DeviceError(f"{self.path}: cannot write: {error.strerror}") from error

    def _locked(self) -> bool:
        """Open and lock the file; False if another process has removed it in between."""
        self._file = self.path.open("a+b", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.fstat(self._file.fileno())
        try:
            return os.path.samestat(ours, self.path.stat())
        except FileNotFoundError:
            return False

    def resume(self, about: About, width: int | None) -> None:
        """Read what another process has left, if it is of the same making; `width`: columns of a
        row, if the index has any. Anything else is removed."""
        first = json.dumps(asdict(about)).encode() + b"\n"
        end = 0
        if self._reader.readline(MAX_LINE) == first:
            end = len(first)
            for size, (entry, row) in _lines(self._reader):
                if width not in (None, len(row)):
                    break
                self.ready[entry.name] = entry, end
                width, end = len(row), end + size
        self._file.truncate(end)
        self._end, self._has_rows = end, bool(self.ready)
        if not end:
            self._append(first)

    def add(self, entry: Entry, row: np.ndarray) -> int:
        """Write one line; where it is. Raises DeviceError if the disk is full."""
        values = {
            "name": base64.b64encode(os.fsencode(entry.name)).decode(),
            "size": entry.size,
            "time": entry.time,
            "sha256": entry.sha256.hex(),
            "row": base64.b64encode(row.astype("<f4").tobytes()).decode(),
        }
        self._has_rows = True
        return self._append(json.dumps(values).encode() + b"\n")

    def row(self, at: int) -> np.ndarray:
        """The row of a line that `add` or `resume` has found to be whole."""
        self._reader.seek(at)
        ready = _parsed(self._reader.readline(MAX_LINE))
        if ready is None:
            raise DeviceError(f"{self.path}: has been changed by another process")
        return ready[1]

    def _append(self, line: bytes) -> int:
        at = self._end
        try:
            view = memoryview(line)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise DeviceError(f"{self.path}: cannot write: {error.strerror}") from error
        self._end += len(line)
        return at

    def finish(self) -> None:
        """Remove the file: the index has everything."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._has_rows:
            self.finish()
        self._reader.close()
        self._file.close()


def _lines(file: Any) -> Iterator[tuple[int, tuple[Entry, np.ndarray]]]:
    """The whole lines of the journal, up to one that is not."""
    while line := file.readline(MAX_LINE):
        ready = _parsed(line) if line.endswith(b"\n") else None
        if ready is None:
            return
        yield len(line), ready


def _parsed(line: bytes) -> tuple[Entry, np.ndarray] | None:
    """The content of a line; None if it is none of ours."""
    try:
        values: dict[str, Any] = json.loads(line)
        name = os.fsdecode(base64.b64decode(values["name"], validate=True))
        sha256 = bytes.fromhex(values["sha256"])
        row = np.frombuffer(base64.b64decode(values["row"], validate=True), "<f4")
        entry = Entry(name, _whole(values["size"]), _whole(values["time"]), sha256)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    is_whole = is_plain(name) and len(sha256) == HASH_BYTES and len(row) > 0
    return (entry, row.astype(np.float32)) if is_whole and is_short(row) else None


def _whole(value: Any) -> int:
    """Raises TypeError or ValueError for what is no whole number of 64 bits."""
    if type(value) is not int:
        raise TypeError
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError
    return value
