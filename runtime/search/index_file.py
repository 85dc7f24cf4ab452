"""The index of a folder: the rows of its pictures and their names, in one safetensors file.

`rows` (n, width) float32, each of length 1; `names`, relative to the folder, each followed by a
zero byte; `sizes` and `times` (n,) int64, the state of each file when it was read; `hashes` (n, 32)
uint8; `about`, JSON. Whatever a file says, reading it costs no more than its size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import overload

import numpy as np

from handglass.errors import DeviceError, InputError

from ..bundle.tensor_writer import TensorWriter
from ..bundle.tensors import TensorFile
from ..system.json_dataclass import parse_dataclass
from ..system.json_text import parse_json

FORMAT = "handglass-index 1"
HASH_BYTES = 32
MAX_ABOUT = 1 << 16
CHUNK = 1 << 16
"""Rows looked at in one go."""
WRITTEN = 1 << 12
"""Rows written in one go."""
LONGEST = 1.001
"""The largest value of a row of length 1, with rounding."""
PER_ENTRY = ("names", "sizes", "times", "hashes")


@dataclass(frozen=True)
class About:
    """What the rows are made of. Rows of another bundle cannot be compared with them."""

    format: str
    bundle: str
    """The absolute path of its folder."""
    manifest_sha256: str
    folder: str
    """The absolute path of the folder of pictures."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file when it was read."""

    name: str
    size: int
    time: int  # of its last change, in nanoseconds
    sha256: bytes


class Entries(Sequence[Entry]):
    """The entries of a file, each made when it is asked for: of a million, a search shows ten.

    An entry whose name is not that of a file below the folder raises InputError.
    """

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """Raises InputError if the arrays do not have the same number of entries."""
        self._path, self._arrays, self._names = path, arrays, memoryview(arrays["names"].data)
        ends = np.flatnonzero(arrays["names"] == 0)
        if len(ends) != len(arrays["sizes"]) or bytes(self._names[-1:]) not in (b"", b"\0"):
            raise InputError(f"{path}: the number of names is not that of the rows; it is damaged")
        self._ends = np.concatenate([[-1], ends])

    @property
    def hashes(self) -> np.ndarray:
        return self._arrays["hashes"]

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: int) -> Entry: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Entry]: ...

    def __getitem__(self, at: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        number = range(len(self))[at]
        name = os.fsdecode(bytes(self._names[self._ends[number] + 1 : self._ends[number + 1]]))
        if not is_plain(name):
            raise InputError(f"{self._path}: {name!r:.100} is not below the folder; it is damaged")
        size, time = (int(self._arrays[key][number]) for key in ("sizes", "times"))
        return Entry(name, size, time, self._arrays["hashes"][number].tobytes())


@dataclass(frozen=True, eq=False)
class Index:
    """`rows` has one row for each of `entries`."""

    about: About
    entries: Sequence[Entry]
    rows: np.ndarray  # (n, width) float32
    path: Path = Path("index")
    """For messages."""

    @classmethod
    def read(cls, path: Path) -> Index:
        """Raises InputError for a file that is no index, or a damaged one. Neither rows nor names
        are looked at."""
        file = TensorFile.open(path)
        expected = {"rows", "names", "sizes", "times", "hashes", "about"}
        if set(file.names) != expected:
            raise InputError(f"{path}: not an index; make one with handglass index")
        about = _about(file.array("about").tobytes(), f"{path}: about")
        rows, n = file.array("rows"), max(file.shape("sizes"), default=0)
        shapes = {
            "names": ("uint8", (max(file.shape("names"), default=0),)),
            "sizes": ("int64", (n,)),
            "times": ("int64", (n,)),
            "hashes": ("uint8", (n, HASH_BYTES)),
            "rows": ("float32", (n, rows.shape[-1] if rows.ndim == 2 else 0)),
        }
        for name, (dtype, shape) in shapes.items():
            if (file.dtype(name), file.shape(name)) != (dtype, shape):
                raise InputError(f"{path}: {name} is not {dtype} {shape}; the index is damaged")
        entries = Entries(path, {name: file.array(name) for name in PER_ENTRY})
        return cls(about, entries, rows, path)

    def taken(self, which: slice | np.ndarray | int) -> np.ndarray:
        """Some rows, or one. Raises InputError if they cannot be of length 1."""
        rows = self.rows[which]
        if not is_short(rows):
            raise InputError(f"{self.path}: rows are not of length 1; the index is damaged")
        return rows

    def content(self) -> Iterator[bytes]:
        """What tells this index from others of the same bundle, in parts: the hash of each picture,
        or the rows themselves where nothing is known of what they were made of."""
        if isinstance(self.entries, Entries):
            yield self.entries.hashes.tobytes()
            return
        for part in parts(len(self.rows)):
            hashes = b"".join(entry.sha256 for entry in self.entries[part])
            yield hashes or self.rows[part].tobytes()


def write_index(
    path: Path, about: About, entries: Sequence[Entry], row_of: Callable[[int], np.ndarray]
) -> None:
    """Write the index of some entries, at least one; `row_of`: the row of each, by its number.

    The file is replaced at once: whoever reads it sees the old index or the new one. Raises
    DeviceError if it cannot be written.
    """
    part, arrays = path.with_name(f"{path.name}.part"), arrays_of(about, entries)
    rows = "rows", (len(entries), len(row_of(0))), "float32"
    specs = [rows, *((name, array.shape, array.dtype.name) for name, array in arrays.items())]
    with TensorWriter(part, specs) as writer:
        for name, array in arrays.items():
            writer.write(name, array)
        for at in range(0, len(entries), WRITTEN):
            numbers = range(at, min(at + WRITTEN, len(entries)))
            writer.write("rows", np.stack(list(map(row_of, numbers))), at)
    try:
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise DeviceError(f"{path}: cannot write: {error.strerror}") from error


def arrays_of(about: About, entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """All arrays of the file but its rows."""
    hashes = np.frombuffer(b"".join(entry.sha256 for entry in entries), np.uint8)
    names = b"".join(os.fsencode(entry.name) + b"\0" for entry in entries)
    return {
        "sizes": np.array([entry.size for entry in entries], np.int64),
        "times": np.array([entry.time for entry in entries], np.int64),
        "hashes": hashes.reshape(len(entries), HASH_BYTES),
        "names": np.frombuffer(names, np.uint8),
        "about": np.frombuffer(json.dumps(asdict(about)).encode(), np.uint8),
    }


def parts(count: int) -> Iterator[slice]:
    """All of `count` rows, CHUNK at a time."""
    return (slice(at, at + CHUNK) for at in range(0, count, CHUNK))


def is_short(rows: np.ndarray) -> bool:
    """Whether no value exceeds that of a row of length 1; False for NaN."""
    return bool((np.abs(rows) <= LONGEST).all())


def is_plain(name: str) -> bool:
    """Whether a name leads to a file below the folder, as written."""
    pure = PurePosixPath(name)
    return (
        bool(pure.parts)
        and str(pure) == name
        and not pure.is_absolute()
        and ".." not in (pure.parts)
    )


def _about(data: bytes, where: str) -> About:
    about = parse_dataclass(About, parse_json(data, where, MAX_ABOUT), where)
    if about.format != FORMAT:
        raise InputError(
            f"{where}: format {about.format!r:.100} is unknown; this handglass reads {FORMAT!r}"
        )
    return about
