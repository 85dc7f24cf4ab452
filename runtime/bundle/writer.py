"""Writes a bundle into a temporary folder and renames it to the final path when complete."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from types import TracebackType

from handglass.errors import DeviceError, UsageError

from ..system.regular_file import open_regular
from ..system.tilde import check_expanded
from .entries import FileEntry
from .file_checks import is_inside, sha256_of
from .manifest import Manifest
from .reader import MANIFEST, Bundle, is_bundle
from .replacing import hold, partial_folder, put_in_place, sweep


class BundleWriter:
    """Build a bundle in a temporary folder next to `path` and rename it when complete.

    with BundleWriter(path, overwrite=True) as writer:
        writer.add_file("lib.so", built)        # a Path to copy, bytes, or None if already written
        ... TensorWriter(writer.folder / "params-00001.safetensors", specs) ...
        writer.add_file("params-00001.safetensors")
        writer.finish(manifest)                 # fills in `files`

    Leaving the block before `finish`, by an exception or an interrupt, removes the folder.
    """

    def __init__(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        self.path = Path(path)
        self.folder = partial_folder(self.path)
        self._overwrite = overwrite
        self._lock = -1
        self._files: list[str] = []
        if not self.path.name:
            raise UsageError(f"{os.fspath(path)!r} cannot be the name of a bundle")
        check_expanded(path)
        _check_replaceable(self.path, overwrite)

    def __enter__(self) -> BundleWriter:
        try:
            shutil.rmtree(self.folder, ignore_errors=True)  # left by a killed process with this PID
            sweep(self.path)
            _check_replaceable(self.path, self._overwrite)  # it may have restored one
            self.folder.mkdir(parents=True)
            self._lock = hold(self.folder)
        except OSError as error:
            raise DeviceError(f"{self.folder}: cannot be created: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)  # or the old bundle, after `finish`
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def add_file(self, name: str, source: Path | bytes | None = None) -> Path:
        """Add a file: copied from a path, written from bytes, or already present in `folder`.

        Raises UsageError for an invalid name or a missing file, DeviceError if writing fails.
        """
        file = self.folder / name
        if not is_inside(self.folder, name):
            raise UsageError(f"{name!r} is not a file name inside a bundle")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                file.write_bytes(source)
            elif source is not None:
                with open_regular(source) as given, file.open("wb") as copy:
                    shutil.copyfileobj(given, copy, 1 << 20)
        except OSError as error:
            raise DeviceError(f"{file}: cannot be written: {error.strerror}") from error
        if not file.is_file():
            raise UsageError(f"{name!r} was added to the bundle but is not in {self.folder}")
        self._files.append(name)
        return file

    def finish(self, manifest: Manifest) -> Bundle:
        """Hash the files, write the manifest last, and rename the folder to its final path."""
        entries = {n: self._entry(self.folder / n) for n in sorted(set(self._files))}
        manifest = dataclasses.replace(manifest, files=entries)
        text = manifest.text().encode()
        manifest = Manifest.parse(text, str(self.path / MANIFEST))  # the written text must parse
        try:
            (self.folder / MANIFEST).write_bytes(text)
            for name in (*entries, MANIFEST):
                _fsync(self.folder / name)
            _fsync(self.folder)
            put_in_place(self.folder, self.path)
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
