"""Loads exactly those bytes of a shared library whose hash was checked.

A file can be replaced or changed between the check and dlopen. So the library is read once, hashed,
and loaded from a copy: a memory file that is sealed against changes (memfd_create), opened as
/proc/self/fd/N. Without memfd or /proc, it is a file in a new folder that only this user can enter,
which is removed once loaded. Such a copy also works if the library's own file system is `noexec`.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from handglass.errors import DeviceError, MismatchError

from .regular_file import read_regular
from .shared_library import SharedLibrary
from .user_cache import cache_folder

T = TypeVar("T")
Copier = Callable[[str, bytes], AbstractContextManager[str]]
LIMIT = 1 << 30
"""Largest library in bytes."""
_NAME = 60  # characters; those of a memory file are limited
_serial = itertools.count(1)


def load_library(library: SharedLibrary, load: Callable[[str], T]) -> T:
    """Call `load`, which dlopens a path, for the library itself if it has no hash, or for a copy.

    Raises MismatchError if the hash differs, DeviceError if no copy can be made, and what `load`
    raises.
    """
    if not library.sha256:
        return load(str(library.path))
    return load_copy(library.path, read_checked(library), load)


def read_checked(library: SharedLibrary) -> bytes:
    """The bytes of a library. Raises MismatchError if its hash is another."""
    try:
        data = read_regular(library.path, LIMIT)
    except OSError as error:
        raise MismatchError(f"{library.path}: cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != library.sha256:
        raise MismatchError(f"{library.path}: its sha256 differs from {library.sha256}")
    return data


def load_copy(path: Path, data: bytes, load: Callable[[str], T]) -> T:
    """Call `load` for a copy of `data`; `path` names the library in errors.

    Raises DeviceError if no copy can be made, OSError if none can be loaded.
    """
    copiers: list[Copier] = [_sealed, *map(_private_in, _folders())]
    no_copy = failure = None
    for copied in copiers:
        with ExitStack() as stack:
            try:
                copy = stack.enter_context(copied(path.name[:_NAME], data))
            except OSError as error:
                no_copy = error
                continue
            try:
                return load(copy)
            except (OSError, RuntimeError) as error:  # this place may forbid execution
                failure = failure or OSError(str(error).replace(copy, path.name))
    if failure is not None:
        raise failure
    raise DeviceError(
        f"{path}: cannot be copied for loading: {no_copy}; mount /proc, or set TMPDIR to a folder "
        "where files can be written and executed"
    )


@contextmanager
def _sealed(name: str, data: bytes) -> Iterator[str]:
    """A sealed memory file. Raises OSError where Linux does not offer it."""
    if not hasattr(os, "memfd_create"):
        raise OSError("no memory files")
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _write(descriptor, data)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _seals())
        # dlopen would return the library that it loaded before under the same name.
        path = f"/proc/self/fd/{'/' * next(_serial)}{descriptor}"
        os.stat(path)  # noqa: PTH116  is /proc mounted?
        yield path
    finally:
        os.close(descriptor)


def _seals() -> int:
    """Against every change of the content, and of the seals; Linux has them where it has memfd."""
    return fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def _private_in(folder: Path) -> Copier:
    @contextmanager
    def private(name: str, data: bytes) -> Iterator[str]:
        """A file in a new folder of this user alone."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        own = Path(tempfile.mkdtemp(prefix="handglass-", dir=folder))
        try:
            file = own / name
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o500)
            try:
                _write(descriptor, data)
            finally:
                os.close(descriptor)
            yield str(file)
        finally:
            shutil.rmtree(own, ignore_errors=True)

    return private


def _folders() -> list[Path]:
    """Where a private copy may be possible, tried in this order."""
    found = []
    with suppress(OSError):  # no folder for temporary files
        found.append(Path(tempfile.gettempdir()))
    if os.environ.get("XDG_RUNTIME_DIR"):
        found.append(Path(os.environ["XDG_RUNTIME_DIR"]))
    return [*found, Path("/dev/shm"), cache_folder("libraries")]


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
