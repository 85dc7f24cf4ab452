"""The parameters of a bundle: read from its files, checked, and put where the code computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from handglass.errors import MismatchError

from ..bundle.entries import TensorEntry
from ..bundle.reader import Bundle
from ..bundle.tensors import TensorFile
from ..execution.placement import Placement


def place_params(bundle: Bundle, placement: Placement) -> list[Any]:
    """A tensor per parameter, in the manifest's order.

    What was copied into another memory is forgotten here, or the most memory that this process ever
    held would be the size of the files.
    """
    files = _files(bundle)
    tensors = []
    for entry in bundle.manifest.params:
        tensors.append(placement.put(_param(bundle, entry, files)))
        if placement.copies:
            files[entry.name].drop_cached(entry.name)
    return tensors


def _files(bundle: Bundle) -> dict[str, TensorFile]:
    """Which file each tensor is in; the manifest must list all of them."""
    found: dict[str, TensorFile] = {}
    for path in bundle.params_files():
        file = TensorFile.open(path)
        for name in file.names:
            if name in found:
                raise MismatchError(f"{path}: tensor {name!r} is in more than one file")
            found[name] = file
    listed = {entry.name for entry in bundle.manifest.params}
    for entry in bundle.manifest.params:
        if entry.name not in found:
            raise MismatchError(f"{bundle.path}: parameter {entry.name!r} is in no params file")
    if extra := found.keys() - listed:
        raise MismatchError(f"{bundle.path}: tensor {min(extra)!r} is not in the manifest")
    return found


def _param(bundle: Bundle, entry: TensorEntry, files: dict[str, TensorFile]) -> np.ndarray:
    array = files[entry.name].array(entry.name)
    if array.shape != entry.shape or array.dtype.name != entry.dtype:
        raise MismatchError(
            f"{bundle.path}: parameter {entry.name!r} is {array.dtype} {array.shape}, "
            f"the manifest says {entry.dtype} {entry.shape}"
        )
    return array
