"""Reads the parameters of a bundle, checks them, and places them in the memory of the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from handglass.errors import MismatchError

from ..bundle.entries import TensorEntry
from ..bundle.reader import Bundle
from ..bundle.tensors import TensorFile
from ..execution.placement import Placement


def place_params(bundle: Bundle, placement: Placement) -> list[Any]:
    """One tensor per parameter, in manifest order.

    Pages that were copied to device memory are released at once; otherwise the peak memory of this
    process would include the size of the files. Raises MismatchError if files and manifest differ.
    """
    files = _files(bundle)
    tensors = []
    for entry in bundle.manifest.params:
        tensors.append(placement.put(_param(bundle, entry, files)))
        if placement.copies:
            files[entry.name].drop_cached(entry.name)
    return tensors


def _files(bundle: Bundle) -> dict[str, TensorFile]:
    """The file of each tensor, by name. The manifest and the files must list the same tensors."""
    files: dict[str, TensorFile] = {}
    for params in bundle.params_names():
        file = bundle.tensors(params)
        for name in file.names:
            if name in files:
                raise MismatchError(f"{file.path}: tensor {name!r} is in more than one file")
            files[name] = file
    listed = {entry.name for entry in bundle.manifest.params}
    for entry in bundle.manifest.params:
        if entry.name not in files:
            raise MismatchError(
                f"{bundle.path}: parameter {entry.name!r} is missing from the params files"
            )
    if extra := files.keys() - listed:
        raise MismatchError(f"{bundle.path}: tensor {min(extra)!r} is not in the manifest")
    return files


def _param(bundle: Bundle, entry: TensorEntry, files: dict[str, TensorFile]) -> np.ndarray:
    array = files[entry.name].array(entry.name)
    if array.shape != entry.shape or array.dtype.name != entry.dtype:
        raise MismatchError(
            f"{bundle.path}: parameter {entry.name!r} is {array.dtype} {array.shape}, "
            f"the manifest says {entry.dtype} {entry.shape}"
        )
    return array
