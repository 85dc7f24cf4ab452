"""The bundle folder. It opens only if every file matches the manifest.

Opening hashes every file (about a second per GB). `verify="remembered"` hashes a parameter file
again only after it changes (hashes.py); `verify="library"` never hashes parameter files and checks
only their sizes. Code and small files are always hashed.
This module neither loads nor executes the contents of a bundle.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from handglass.errors import InputError, MismatchError, UsageError

from ..system.json_text import parse_json
from .entries import (
    FileEntry,
)
from .hashes import Verified
from .manifest import FORMAT, LIBRARY, MAX_MANIFEST, RUNTIME_LIBRARY, Manifest

__all__ = [
    "LIBRARY",
    "MANIFEST",
    "REPORT",
    "RUNTIME_LIBRARY",
    "VERIFY",
    "Bundle",
    "FileState",
    "Inspection",
    "Manifest",
    "is_bundle",
]

MANIFEST = "manifest.json"
REPORT = "report.json"
VERIFY = ("all", "remembered", "library")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileState:
    """A listed file as it is on disk; `problem` is empty if it matches the manifest."""

    name: str
    size: int
    problem: str


@dataclass(frozen=True)
class Inspection:
    path: Path
    manifest: Manifest
    files: tuple[FileState, ...]


@dataclass(frozen=True)
class Bundle:
    """A folder whose listed files have been checked against the manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: str = "all") -> Bundle:
        """Check the files and return the bundle; `verify` is one of VERIFY.

        Raises UsageError for another `verify`, InputError for a missing or malformed manifest, and
        MismatchError for a file that differs from the manifest.
        """
        if verify not in VERIFY:
            raise UsageError(f"verify={verify!r} is unknown; known: {', '.join(VERIFY)}")
        path = Path(path)
        text = read_manifest_text(path)
        manifest = Manifest.parse(text, str(path / MANIFEST))
        memory = Verified(path, text) if verify == "remembered" else None
        for name, entry in manifest.files.items():
            known = is_params(name) and (verify == "library" or _knows(memory, path / name, entry))
            problem = _problem(path, name, entry, hashed=not known, memory=memory)
            if problem:
                raise MismatchError(
                    f"{path}: {name[:200]}: {problem}; copy or compile the bundle again"
                )
        if memory:
            memory.save()
        return cls(path, manifest)

    @staticmethod
    def inspect(path: str | os.PathLike[str]) -> Inspection:
        """The manifest and the state of every listed file; hashes all, executes nothing."""
        path = Path(path)
        manifest = read_manifest(path)
        states = (
            FileState(name, entry.size, _problem(path, name, entry, hashed=True))
            for name, entry in manifest.files.items()
        )
        return Inspection(path, manifest, tuple(states))

    def file(self, name: str) -> Path:
        """The path of a listed, and therefore checked, file. Raises MismatchError for another."""
        if name not in self.manifest.files:
            raise MismatchError(f"{self.path}: {name[:200]!r} is not listed in {MANIFEST}")
        return self.path / name

    def params_files(self) -> list[Path]:
        return [self.path / name for name in sorted(self.manifest.files) if is_params(name)]


def is_params(name: str) -> bool:
    return name.startswith("params-") and name.endswith(".safetensors")


def is_bundle(path: Path) -> bool:
    """Whether the folder has a handglass manifest of any version, valid or not."""
    try:
        data = parse_json(read_manifest_text(path), MANIFEST, MAX_MANIFEST)
    except InputError:
        return False
    return isinstance(data, dict) and data.get("format") == FORMAT


def read_manifest(path: Path) -> Manifest:
    return Manifest.parse(read_manifest_text(path), str(path / MANIFEST))


def read_manifest_text(path: Path) -> bytes:
    file = path / MANIFEST
    try:
        if file.stat().st_size > MAX_MANIFEST:
            raise InputError(f"{file}: larger than {MAX_MANIFEST} bytes")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: not a bundle: {MANIFEST}: {error.strerror}") from error


def _knows(memory: Verified | None, file: Path, entry: FileEntry) -> bool:
    try:
        return memory is not None and memory.knows(file, entry.sha256)
    except OSError:  # _problem reports it
        return False


def _problem(
    folder: Path, name: str, entry: FileEntry, hashed: bool, memory: Verified | None = None
) -> str:
    """What is wrong with a listed file, or the empty string."""
    if not is_inside(folder, name):
        return "points outside the bundle"
    file = folder / name
    try:
        if not file.is_file():
            return "is missing"
        stat = file.stat()
        if stat.st_size != entry.size:
            return f"has {stat.st_size} bytes, the manifest says {entry.size}"
        if hashed and sha256_of(file) != entry.sha256:
            return "its sha256 differs from the manifest"
        if hashed and memory and is_params(name):
            memory.add(file, stat, entry.sha256)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def is_inside(folder: Path, name: str) -> bool:
    """Whether `name` is a plain relative path that resolves to a place inside `folder`."""
    pure = PurePosixPath(name)
    plain = bool(pure.parts) and str(pure) == name and not set(name) & set("\0\\")
    if not plain or ".." in pure.parts or pure.is_absolute() or name == MANIFEST:
        return False
    root = folder.resolve()
    try:
        return (folder / name).resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a symlink loop
        return False


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
