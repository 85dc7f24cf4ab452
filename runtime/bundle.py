"""The bundle folder: opened only after every file is what the manifest says, written atomically.

Opening hashes every file (about a second per GB). `verify="remembered"` hashes a parameter file
only once, until it is touched (verified.py); `verify="library"` never, and checks their size alone.
Code and small files are never trusted unhashed.
Nothing here loads or executes what a bundle holds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType

from handglass.errors import DeviceError, InputError, MismatchError, UsageError

from .manifest import (
    FORMAT,
    LIBRARY,
    RUNTIME_LIBRARY,
    VULKAN_LIBRARY,
    CacheEntry,
    FileEntry,
    FunctionEntry,
    Manifest,
    ModelEntry,
    PromptEntry,
    TargetEntry,
    TensorEntry,
    TokenizerEntry,
    VisionEntry,
)
from .verified import Verified

__all__ = [
    "LIBRARY",
    "MANIFEST",
    "REPORT",
    "RUNTIME_LIBRARY",
    "VERIFY",
    "VULKAN_LIBRARY",
    "Bundle",
    "BundleWriter",
    "CacheEntry",
    "FileEntry",
    "FileState",
    "FunctionEntry",
    "Inspection",
    "Manifest",
    "ModelEntry",
    "PromptEntry",
    "TargetEntry",
    "TensorEntry",
    "TokenizerEntry",
    "VisionEntry",
    "is_bundle",
]

MANIFEST = "manifest.json"
REPORT = "report.json"
VERIFY = ("all", "remembered", "library")
_MAX_MANIFEST = 64 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileState:
    """A listed file as it is on disk; `problem` is empty when it is what the manifest says."""

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
    """A folder whose listed files were checked against the manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: str = "all") -> Bundle:
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
                raise MismatchError(f"{path}: {name}: {problem}; copy or compile the bundle again")
        if memory:
            memory.save()
        return cls(path, manifest)

    @staticmethod
    def inspect(path: str | os.PathLike[str]) -> Inspection:
        """The manifest and the state of every listed file; executes nothing, trusts nothing."""
        path = Path(path)
        manifest = read_manifest(path)
        states = (
            FileState(name, entry.size, _problem(path, name, entry, hashed=True))
            for name, entry in manifest.files.items()
        )
        return Inspection(path, manifest, tuple(states))

    def file(self, name: str) -> Path:
        """A listed (and therefore checked) file."""
        if name not in self.manifest.files:
            raise MismatchError(f"{self.path}: {name!r} is not listed in {MANIFEST}")
        return self.path / name

    def params_files(self) -> list[Path]:
        return [self.path / name for name in sorted(self.manifest.files) if is_params(name)]


def is_params(name: str) -> bool:
    return name.startswith("params-") and name.endswith(".safetensors")


def is_bundle(path: Path) -> bool:
    """Whether the folder has a manifest of ours, of whatever version, whole or not."""
    try:
        data = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("format") == FORMAT


def read_manifest(path: Path) -> Manifest:
    return Manifest.parse(read_manifest_text(path), str(path / MANIFEST))


def read_manifest_text(path: Path) -> bytes:
    file = path / MANIFEST
    try:
        if file.stat().st_size > _MAX_MANIFEST:
            raise InputError(f"{file}: is larger than {_MAX_MANIFEST} bytes")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: not a bundle: {MANIFEST}: {error.strerror}") from error


def _knows(memory: Verified | None, file: Path, entry: FileEntry) -> bool:
    try:
        return memory is not None and memory.knows(file, entry.sha256)
    except OSError:  # is told where the file is looked at
        return False


def _problem(
    folder: Path, name: str, entry: FileEntry, hashed: bool, memory: Verified | None = None
) -> str:
    """What is wrong with a listed file, or the empty string."""
    if not _is_inside(folder, name):
        return "leads out of the bundle"
    file = folder / name
    try:
        if not file.is_file():
            return "is missing"
        found = file.stat()
        if found.st_size != entry.size:
            return f"has {found.st_size} bytes, the manifest says {entry.size}"
        if hashed and sha256_of(file) != entry.sha256:
            return "its sha256 is not the one in the manifest"
        if hashed and memory and is_params(name):
            memory.add(file, found, entry.sha256)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def _is_inside(folder: Path, name: str) -> bool:
    """Plain relative names only, and no link that leads elsewhere."""
    pure = PurePosixPath(name)
    plain = bool(pure.parts) and str(pure) == name and not set(name) & set("\0\\")
    if not plain or ".." in pure.parts or pure.is_absolute() or name == MANIFEST:
        return False
    root = folder.resolve()
    try:
        return (folder / name).resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a loop of links
        return False


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class BundleWriter:
    """Build a bundle beside its final place and move it there in one step.

    with BundleWriter(path, overwrite=True) as writer:
        writer.add_file("lib.so", built)        # a Path to copy, bytes, or None: already written
        ... TensorWriter(writer.folder / "params-00001.safetensors", specs) ...
        writer.add_file("params-00001.safetensors")
        writer.finish(manifest)                 # its `files` are filled in here

    Whatever ends the block before `finish`, an interrupt included, leaves no trace.
    """

    def __init__(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        self.path = Path(path)
        self.folder = self.path.parent / f".{self.path.name}.partial-{os.getpid()}"
        self._files: list[str] = []
        if not self.path.name:
            raise UsageError(f"{os.fspath(path)!r} cannot be the name of a bundle")
        _check_replaceable(self.path, overwrite)

    def __enter__(self) -> BundleWriter:
        try:
            shutil.rmtree(self.folder, ignore_errors=True)  # left by a killed process of our number
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise DeviceError(f"{self.folder}: cannot be made: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)  # gone already after `finish`

    def add_file(self, name: str, source: Path | bytes | None = None) -> Path:
        """List a file: copied from a path, written from bytes, or already in `folder`."""
        file = self.folder / name
        if not _is_inside(self.folder, name):
            raise UsageError(f"{name!r} is not a file name inside a bundle")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                file.write_bytes(source)
            elif source is not None:
                shutil.copyfile(source, file)
        except OSError as error:
            raise DeviceError(f"{file}: cannot be written: {error.strerror}") from error
        if not file.is_file():
            raise UsageError(f"{name!r} was added to the bundle but is not in {self.folder}")
        self._files.append(name)
        return file

    def finish(self, manifest: Manifest) -> Bundle:
        """Hash the files, write the manifest last, and move the folder into place."""
        entries = {n: self._entry(self.folder / n) for n in sorted(set(self._files))}
        manifest = dataclasses.replace(manifest, files=entries)
        text = manifest.text().encode()
        manifest = Manifest.parse(text, str(self.path / MANIFEST))  # what we write, we can read
        try:
            (self.folder / MANIFEST).write_bytes(text)
            for name in (*entries, MANIFEST):
                _fsync(self.folder / name)
            _fsync(self.folder)
            _move(self.folder, self.path)
            _fsync(self.path.parent)
        except OSError as error:
            raise DeviceError(f"{self.path}: cannot be written: {error.strerror}") from error
        return Bundle(self.path, manifest)

    def _entry(self, file: Path) -> FileEntry:
        return FileEntry(sha256_of(file), file.stat().st_size)


def _check_replaceable(path: Path, overwrite: bool) -> None:
    if not os.path.lexists(path):
        return
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        return
    if not is_bundle(path) or path.is_symlink():
        raise UsageError(f"{path}: exists and is not a bundle; choose another output")
    if not overwrite:
        raise UsageError(f"{path}: exists already; choose another output or --overwrite it")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(folder: Path, path: Path) -> None:
    """Rename onto `path`; an old bundle steps aside first, and back if the second step fails."""
    old = path.parent / f".{path.name}.old-{os.getpid()}"
    replaces = is_bundle(path)
    if replaces:
        path.rename(old)
    try:
        folder.rename(path)
    except BaseException:
        if replaces:
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
