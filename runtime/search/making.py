"""Makes the index of a folder, or brings it up to date.

A file whose size and time are those of the index is not read. Any other one is read and hashed, and
encoded only if no row of the same content is known, under whatever name. What is ready goes into
the journal at once. A picture that cannot be read is reported and left out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import InputError, MismatchError, UsageError

from ..prompt.pictures.limits import FILE_BYTES
from ..prompt.pictures.suffixes import SUFFIXES
from ..system.regular_file import read_regular
from .index_file import About, Entry, Index, write_index
from .journal import Journal

Progress = Callable[[str, int, int], object]
Encode = Callable[[Any], np.ndarray]
"""A picture -> its row of length 1. Raises InputError."""


@dataclass
class Outcome:
    """What became of the pictures of a folder."""

    total: int = 0
    """Pictures of the index."""
    added: int = 0
    """Encoded, in this run or in one that was cut short."""
    moved: int = 0
    """Read and hashed, but of a content that was known."""
    unchanged: int = 0
    removed: int = 0
    """In the former index, and no longer in the folder, or no longer readable."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Name -> why it could not be read."""


def update(path: Path, about: About, encode: Encode, progress: Progress) -> Outcome:
    """Write the index of the folder `about.folder` to `path`; one that is up to date is left as it
    is.

    Raises InputError for a folder without pictures or a damaged index, MismatchError for an index
    of another bundle or folder, UsageError for a path that is a folder and if another process makes
    the index, DeviceError if it cannot be written.
    """
    folder, outcome = Path(about.folder), Outcome()
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name the file to write")
    files = list(pictures_of(folder, outcome.skipped))
    if not files:
        known = ", ".join(SUFFIXES)
        raise InputError(f"{folder}: has no pictures ({known}), in no folder below it either")
    with Journal(path) as journal:
        former = _former(path, about)
        journal.resume(about, former.rows.shape[1] if former is not None else None)
        making = Making(folder, former, journal, encode, outcome)
        for number, name in enumerate(files):
            progress("index", number, len(files))
            making.take(name)
        progress("index", len(files), len(files))
        making.write(path, about)
        journal.finish()
    return outcome


def pictures_of(folder: Path, skipped: dict[str, str]) -> Iterator[str]:
    """The names of all pictures of a folder and those below, relative to it, in order; links to
    folders are not followed. A folder that cannot be read is added to `skipped`.

    Raises InputError for no folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")

    def skip(error: OSError) -> None:
        name = Path(os.fsdecode(error.filename or folder)).relative_to(folder).as_posix()
        skipped[name] = f"cannot be read: {error.strerror}"

    for at, folders, names in os.walk(folder, onerror=skip):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES):
                yield (Path(at) / name).relative_to(folder).as_posix()


def _former(path: Path, about: About) -> Index | None:
    if not path.exists():
        return None
    index = Index.read(path)
    if index.about.manifest_sha256 != about.manifest_sha256:
        raise MismatchError(
            f"{path}: was made with another bundle ({index.about.bundle}), whose rows cannot be "
            "compared; remove the index, or give the new one another name"
        )
    if index.about.folder != about.folder:
        raise MismatchError(
            f"{path}: is the index of {index.about.folder}, not of {about.folder}; give the new "
            "one another name"
        )
    return index


class Making:
    """One run. A row is known by a number: its place in the former index, or the complement of the
    place of its line in the journal."""

    def __init__(
        self,
        folder: Path,
        former: Index | None,
        journal: Journal,
        encode: Encode,
        outcome: Outcome,
    ) -> None:
        self._folder, self._journal, self._encode = folder, journal, encode
        self._former, self.outcome = former, outcome
        entries = former.entries if former is not None else ()
        self._indexed = {entry.name: (entry, at) for at, entry in enumerate(entries)}
        self._resumed = {name: (entry, ~at) for name, (entry, at) in journal.ready.items()}
        known = (*self._indexed.values(), *self._resumed.values())
        self._by_content = {entry.sha256: at for entry, at in known}
        self._made: list[tuple[Entry, int]] = []

    def take(self, name: str) -> None:
        """Find or make the row of one picture."""
        try:
            self._made.append(self._ready(name))
        except InputError as error:
            self.outcome.skipped[name] = str(error)
        except OSError as error:
            self.outcome.skipped[name] = f"cannot be read: {error.strerror}"

    def _ready(self, name: str) -> tuple[Entry, int]:
        state = (self._folder / name).stat()
        size, time = state.st_size, state.st_mtime_ns
        for known, resumed in ((self._indexed, False), (self._resumed, True)):
            if name in known and (known[name][0].size, known[name][0].time) == (size, time):
                self._count(added=resumed, unchanged=not resumed)
                return known[name]
        data = read_regular(self._folder / name, FILE_BYTES)
        entry = Entry(name, size, time, hashlib.sha256(data).digest())
        if (at := self._by_content.get(entry.sha256)) is None:
            at = self._by_content[entry.sha256] = ~self._journal.add(entry, self._encode(data))
            self._count(added=True)
        else:
            self._count(moved=True)
        return entry, at

    def _count(self, **kinds: bool) -> None:
        for kind, holds in kinds.items():
            setattr(self.outcome, kind, getattr(self.outcome, kind) + holds)

    def write(self, path: Path, about: About) -> None:
        """Write the index of all pictures, if anything has changed. Raises InputError if none could
        be read."""
        if not self._made:
            (first, reason), *_ = self.outcome.skipped.items()
            raise InputError(f"{self._folder}: no picture can be read; {first}: {reason}")
        entries, places = zip(*self._made, strict=True)
        self.outcome.total = len(entries)
        self.outcome.removed = len(self._indexed.keys() - {entry.name for entry in entries})
        is_same = list(places) == list(range(len(self._indexed))) and not self.outcome.moved
        if not is_same or (self._former is not None and self._former.about != about):
            write_index(path, about, entries, lambda number: self._row(places[number]))

    def _row(self, at: int) -> np.ndarray:
        if at < 0:
            return self._journal.row(~at)
        assert self._former is not None
        return self._former.taken(at)
