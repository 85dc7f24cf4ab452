"""The bundles that `handglass quickstart` keeps in the user's cache, each with a note beside it.

A bundle is found again by what went into it: the checkpoint's files, the options, the target, and
the versions of handglass and TVM. Its note holds the hash of its manifest, so that a bundle which
anyone has changed is compiled again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from handglass import __version__
from handglass.errors import DeviceError, HandglassError, InputError
from handglass.runtime.bundle.reader import Bundle, read_manifest_text
from handglass.runtime.bundle.replacing import sweep
from handglass.runtime.system.json_dataclass import optional, parse_dataclass
from handglass.runtime.system.packages import installed_version
from handglass.runtime.system.user_cache import (
    cache_folder,
    drop_cached,
    is_private,
    read_cached,
    write_cached,
)

SHELF = "quickstart"
PARTIAL = re.compile(r"\.(.+)\.(?:partial|old)-[^.]*\.\d+")
"""What a killed compilation leaves (runtime/bundle/replacing.py)."""


@dataclass(frozen=True)
class Request:
    """What one asks for; the same request finds the same bundle."""

    checkpoint: Path
    mmproj: Path | None
    target: str
    quantization: str | None
    context: int | None

    def slot(self) -> Slot:
        """Raises InputError if the checkpoint does not exist, and as `find_target` does."""
        name = re.sub(r"[^\w.-]", "_", self.checkpoint.resolve().name).lstrip(".") or "model"
        folder = cache_folder(SHELF)
        return Slot(folder / f"{name.removesuffix('.gguf')}-{self._key()}")

    def _key(self) -> str:
        from handglass.targets import find_target

        device = find_target(self.target)
        parts = {
            "files": [files_of(path) for path in (self.checkpoint, self.mmproj) if path],
            "options": [self.quantization, self.context],
            "target": [device.name, device.triple, device.cpu, *device.mattr],
            "versions": [__version__, installed_version("apache-tvm")],
        }
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Note:
    """What is known of a kept bundle."""

    manifest: str
    """The sha256 of its manifest."""
    checkpoint: str
    target: str
    choice: str
    """How it is stored, in words."""
    parameters: int
    seconds: float
    """What the compilation took."""
    bytes: int
    verdict: str = ""
    """The last line of `handglass verify`; empty: not compared yet."""
    used: float = field(default_factory=time.time)
    """When it was last asked for, in seconds since 1970."""
    verify_seconds: float = optional(float)
    """What comparing took; 0: it was not compared."""


@dataclass(frozen=True)
class Slot:
    """The place of one bundle, which may be empty."""

    bundle: Path

    @property
    def _file(self) -> Path:
        return self.bundle.with_name(f"{self.bundle.name}.json")

    def read(self) -> Note | None:
        """The note of a bundle that is there; None also if it is not the one that was noted."""
        try:
            note = parse_dataclass(Note, read_cached(self._file), str(self._file))
            same = note.manifest == manifest_hash(self.bundle)
        except HandglassError:
            return None
        return note if same else None

    def write(self, note: Note) -> None:
        write_cached(self._file, asdict(note))

    def touch(self, note: Note) -> None:
        """Note that the bundle was asked for now."""
        self.write(replace(note, used=time.time()))

    def damage(self) -> str:
        """What is wrong with the bundle's files; empty: nothing."""
        try:
            Bundle.open(self.bundle, verify="remembered")
        except HandglassError as error:
            return str(error)
        return ""

    def remove(self) -> None:
        drop_cached(self._file)
        shutil.rmtree(self.bundle, ignore_errors=True)


def prepare_shelf() -> None:
    """Make the folder, and remove what killed compilations left in it.

    Raises DeviceError if it cannot be made, or if other users can write it: a bundle holds code.
    """
    folder = cache_folder(SHELF)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DeviceError(f"{folder}: cannot be created: {error.strerror}") from error
    if not is_private(folder.stat()):
        raise DeviceError(f"{folder}: other users can write it; run chmod go-w on it")
    left = [found for found in map(PARTIAL.fullmatch, names(folder)) if found]
    for name in {found[1] for found in left}:
        sweep(folder / name)


def kept() -> list[tuple[Slot, Note]]:
    """All bundles on the shelf, the last used first."""
    folder = cache_folder(SHELF)
    slots = (Slot(folder / name) for name in names(folder) if not name.startswith("."))
    found = [(slot, note) for slot in slots if (note := slot.read())]
    return sorted(found, key=lambda pair: -pair[1].used)


def bound(count: int, but: Slot) -> Iterator[tuple[Slot, Note]]:
    """Remove bundles but the `count` last used, and yield them; `but` is one of those that stay."""
    others = [(slot, note) for slot, note in kept() if slot != but]
    for slot, note in others[count - 1 :]:
        slot.remove()
        yield slot, note


def names(folder: Path) -> list[str]:
    with suppress(OSError):
        return sorted(path.name for path in folder.iterdir() if path.is_dir())
    return []


def files_of(path: Path) -> Mapping[str, Any]:
    """The files of a checkpoint by name: size and time of the last change."""
    path = path.resolve()
    files = [path] if path.is_file() else sorted(path.glob("*"))
    if not path.exists():
        raise InputError(f"{path}: no such checkpoint; name its folder, or a GGUF file")
    states = {file.name: file.stat() for file in files if file.is_file()}
    return {str(path): {name: [s.st_size, s.st_mtime_ns] for name, s in states.items()}}


def manifest_hash(bundle: Path) -> str:
    """Raises InputError if there is none."""
    return hashlib.sha256(read_manifest_text(bundle)).hexdigest()
