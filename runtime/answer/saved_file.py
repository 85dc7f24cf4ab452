"""Writes a kept conversation in one step: a reader sees the old file or the new one, whole.

The new content is written beside the file under another name, brought to the disk, and renamed.
What a killed process left beside it is removed by the next one that saves there.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from handglass.errors import DeviceError, InputError

from ..bundle.manifest import Manifest
from ..bundle.tensor_writer import TensorWriter
from ..bundle.tensors import TensorFile
from .saved_conversation import TALK, SavedConversation, arrays_of

PRIVATE = 0o600


def write_conversation(path: Path, saved: SavedConversation, manifest: Manifest) -> int:
    """Write the file, in place of a conversation that was saved there; returns its bytes.

    Raises InputError if something else is there, DeviceError if it cannot be written.
    """
    refuse_other(path)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    _sweep(path)
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
        _write(partial, arrays_of(saved, manifest))
        _to_disk(partial)
        partial.replace(path)
        _to_disk(path.parent)
        return path.stat().st_size
    except OSError as error:
        raise DeviceError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def refuse_other(path: Path) -> None:
    """Raise InputError if the path leads to anything but a kept conversation."""
    if not os.path.lexists(path):
        return
    with contextlib.suppress(InputError):
        if TALK in TensorFile.open(path):
            return
    raise InputError(f"{path}: is there and is no kept conversation; choose another name")


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    specs = [(name, array.shape, array.dtype.name) for name, array in arrays.items()]
    with TensorWriter(path, specs) as writer:
        for name, array in arrays.items():
            if array.flags.c_contiguous or array.ndim < 2:
                writer.write(name, array)
                continue
            for row in range(len(array)):  # one copy of a row at a time
                writer.write(name, array[row : row + 1], row)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(path: Path) -> None:
    """Remove what killed processes left."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
        number = left.name.rpartition("-")[2]
        if number.isdecimal() and not _writes(int(number)):
            with contextlib.suppress(OSError):
                left.unlink()


def _writes(number: int) -> bool:
    """Whether this may be a process that writes now."""
    if number == os.getpid():  # this one does not yet: in a container, numbers repeat soon
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user, or no number of a process
        return True
    return True
