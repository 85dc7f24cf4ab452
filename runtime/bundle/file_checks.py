"""Checks a listed file of a bundle: its name, its size and its hash.

A file is opened once, and everything is checked on its descriptor. The file itself may be a link,
as in the cache of a model hub, where every file is a link to `../../blobs/HASH`; its name and the
folders on the way to it may not lead out of the bundle.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..system.file_state import file_state
from ..system.regular_file import open_regular
from .entries import FileEntry
from .hashes import Verified

MANIFEST = "manifest.json"
_CHUNK = 1 << 20


class DiffersError(Exception):
    """How a file differs from the manifest."""


def is_params(name: str) -> bool:
    return name.startswith("params-") and name.endswith(".safetensors")


def check_file(
    folder: Path,
    name: str,
    entry: FileEntry,
    memory: Verified | None = None,
    sizes_only: bool = False,
) -> dict[str, int]:
    """Check a file and return its state (file_state.py). Raises DiffersError.

    A parameter file is not hashed if `memory` knows it or with `sizes_only`.
    """
    if not is_inside(folder, name):
        raise DiffersError("points outside the bundle")
    try:
        with open_regular(folder / name) as file:
            before = os.fstat(file.fileno())
            remembers = memory is not None and memory.knows(name, before, entry.sha256)
            hashed = not (is_params(name) and (sizes_only or remembers))
            check_content(file, entry, hashed)
            if hashed and memory and is_params(name):
                memory.add(name, before, os.fstat(file.fileno()), entry.sha256)
            return file_state(before)
    except FileNotFoundError:
        raise DiffersError("is missing") from None
    except IsADirectoryError:
        raise DiffersError("is missing: a folder has its name") from None
    except OSError as error:
        raise DiffersError(f"cannot be read: {error.strerror}") from error


def check_content(file: BinaryIO, entry: FileEntry, hashed: bool) -> None:
    """Check the size and the hash of an open file. Raises DiffersError."""
    size = os.fstat(file.fileno()).st_size
    if size != entry.size:
        raise DiffersError(f"has {size} bytes, the manifest says {entry.size}")
    if hashed and hash_of(file, entry.size) != entry.sha256:
        raise DiffersError("its sha256 differs from the manifest")


def is_inside(folder: Path, name: str) -> bool:
    """Whether `name` is a plain relative path, and its parent is a place inside `folder`."""
    pure = PurePosixPath(name)
    plain = bool(pure.parts) and str(pure) == name and not set(name) & set("\0\\")
    if not plain or ".." in pure.parts or pure.is_absolute() or name == MANIFEST:
        return False
    try:
        return (folder / name).parent.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a symlink loop
        return False


def sha256_of(file: Path) -> str:
    """The hash of a regular file. Raises OSError."""
    with open_regular(file) as stream:
        return hash_of(stream, os.fstat(stream.fileno()).st_size)


def hash_of(file: BinaryIO, size: int) -> str:
    """The hash of the first `size` bytes of an open file, which may grow meanwhile."""
    digest = hashlib.sha256()
    while size and (chunk := file.read(min(_CHUNK, size))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()
