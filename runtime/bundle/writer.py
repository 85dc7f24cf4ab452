"""Writing a bundle: beside its final place, moved there in one step when it is whole."""

from __future__ import annotations

import dataclasses
import glob
import os
import shutil
import time
from pathlib import Path
from types import TracebackType

from handglass.errors import DeviceError, UsageError

from .entries import FileEntry
from .manifest import Manifest
from .reader import MANIFEST, Bundle, is_bundle, is_inside, sha256_of

STALE = 3600.0
"""Seconds without a change; no step of a compile takes that long."""


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
            _sweep(self.path)
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
        if not is_inside(self.folder, name):
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


def _sweep(path: Path) -> None:
    """Remove what writers of this bundle left that were killed: no trace of them for an hour."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
        number = folder.name.rpartition("-")[2]
        if number.isdecimal() and not _is_alive(int(number)) and _age(folder) > STALE:
            shutil.rmtree(folder, ignore_errors=True)


def _age(folder: Path) -> float:
    """Seconds since anything in it changed; 0 for one that is going away just now."""
    try:
        return time.time() - max(f.stat().st_mtime for f in (folder, *folder.rglob("*")))
    except OSError:
        return 0.0


def _is_alive(number: int) -> bool:
    """A process of this machine; one of another may write to the same disk."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or no number of a process
        return True
    return True


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
