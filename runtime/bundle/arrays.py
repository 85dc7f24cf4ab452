"""Arrays in numpy's files: .npy in, .npz out. Pickles are refused, and the header of a file is
checked before its data is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from handglass.errors import DeviceError, InputError

from ..system.regular_file import open_regular
from .entries import TensorEntry


def read_array(path: Path, entry: TensorEntry) -> np.ndarray:
    """The array, which has the shape of `entry`. Raises InputError."""
    try:
        with open_regular(path) as file:
            shape = _shape(file)
            if shape != entry.shape:
                raise InputError(
                    f"{path}: the array has the shape {shape!s:.200}, but the input "
                    f"{entry.name[:100]!r} has {entry.shape}"
                )
            file.seek(0)
            return np.asarray(np.load(file, allow_pickle=False))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: no .npy file, or a damaged one: {str(error)[:200]}") from error


def _shape(file: BinaryIO) -> tuple[int, ...]:
    """Raises ValueError for anything but a .npy file."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)[0]
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)[0]
    raise ValueError(f"version {version} is not supported")


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write all arrays by name into one .npz file. Raises DeviceError."""
    try:
        with Path(path).open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise DeviceError(f"{path}: cannot be written: {error.strerror}") from error
