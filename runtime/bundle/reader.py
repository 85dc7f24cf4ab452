"""The bundle folder. It opens only if every file matches the manifest.

Opening hashes every file (about a second per GB). `verify="remembered"` hashes a parameter file
again only after it changes (hashes.py); `verify="library"` never hashes parameter files and checks
only their sizes. Code and small files are always hashed.
This module neither loads nor executes the contents of a bundle.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from handglass.errors import InputError, MismatchError, UsageError

from ..system.file_state import file_state
from ..system.json_text import parse_json
from ..system.regular_file import open_regular, read_regular
from ..system.shared_library import SharedLibrary
from .entries import FileEntry
from .file_checks import MANIFEST, DiffersError, check_content, check_file, is_inside, is_params
from .hashes import Verified
from .manifest import FORMAT, LIBRARY, MAX_MANIFEST, RUNTIME_LIBRARY, Manifest
from .tensors import TensorFile

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

REPORT = "report.json"
VERIFY = ("all", "remembered", "library")
_MAX_READ = 256 << 20  # of a file that is read whole, such as a tokenizer
AGAIN = "copy or compile the bundle again"


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
    """A folder whose listed files have been checked against the manifest.

    A file may be replaced after the check, so what is used is checked again: `read`, `library` and
    `tensors` return what was hashed, not what the path leads to by then.
    """

    path: Path
    manifest: Manifest
    states: Mapping[str, dict[str, int]] = field(default_factory=dict, compare=False)
    """The state (runtime/system/file_state.py) in which each file was checked."""

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
        states = {}
        for name, entry in manifest.files.items():
            try:
                states[name] = check_file(path, name, entry, memory, verify == "library")
            except DiffersError as problem:
                raise MismatchError(f"{path}: {name[:200]}: {problem}; {AGAIN}") from problem
        if memory:
            memory.save()
        return cls(path, manifest, states)

    @classmethod
    def of_manifest(cls, path: str | os.PathLike[str]) -> Bundle:
        """The bundle with no file checked yet; each is checked when it is used.

        For programs that need few of the files, which may be all that there are. Raises InputError
        or MismatchError for an invalid manifest.
        """
        return cls(Path(path), read_manifest(Path(path)))

    @staticmethod
    def inspect(path: str | os.PathLike[str]) -> Inspection:
        """The manifest and the state of every listed file; hashes all, executes nothing."""
        path = Path(path)
        manifest = read_manifest(path)
        states = (
            FileState(name, entry.size, _problem(path, name, entry))
            for name, entry in manifest.files.items()
        )
        return Inspection(path, manifest, tuple(states))

    def file(self, name: str) -> Path:
        """The path of a listed file, for messages and copies. Raises MismatchError for another."""
        if name not in self.manifest.files:
            raise MismatchError(f"{self.path}: {name[:200]!r} is not listed in {MANIFEST}")
        if not is_inside(self.path, name):
            raise MismatchError(f"{self.path}: {name[:200]!r} points outside the bundle")
        return self.path / name

    def read(self, name: str) -> bytes:
        """The content of a listed file of at most 256 MB. MismatchError if its hash differs."""
        file, entry = self.file(name), self.manifest.files[name]
        try:
            data = read_regular(file, min(entry.size, _MAX_READ))
        except OSError as error:
            raise MismatchError(f"{file}: cannot be read: {error.strerror}; {AGAIN}") from error
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise MismatchError(f"{file}: its sha256 differs from the manifest; {AGAIN}")
        return data

    def library(self, name: str) -> SharedLibrary:
        """A listed library with its hash, which is checked when the library is loaded."""
        return SharedLibrary(self.file(name).absolute(), self.manifest.files[name].sha256)

    def tensors(self, name: str) -> TensorFile:
        """A listed file of tensors: the one that was checked, or one with the hash of the manifest.

        Raises MismatchError for any other, InputError for an invalid header.
        """
        path, entry = self.file(name), self.manifest.files[name]
        try:
            with open_regular(path) as file:
                if self.states.get(name) != file_state(os.fstat(file.fileno())):
                    check_content(file, entry, hashed=True)
                return TensorFile.map(path, file)
        except (OSError, DiffersError) as error:
            problem = getattr(error, "strerror", None) or error
            raise MismatchError(f"{path}: {problem}; {AGAIN}") from error

    def params_names(self) -> list[str]:
        """The names of the parameter files, in order."""
        return sorted(filter(is_params, self.manifest.files))


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
    try:
        return read_regular(path / MANIFEST, MAX_MANIFEST)
    except OSError as error:
        raise InputError(f"{path}: not a bundle: {MANIFEST}: {error.strerror}") from error


def _problem(folder: Path, name: str, entry: FileEntry) -> str:
    """What is wrong with a listed file, or the empty string."""
    try:
        check_file(folder, name, entry)
    except DiffersError as problem:
        return str(problem)
    return ""
