"""The file of each tensor in a checkpoint folder.

Supported are one safetensors file, several with an index and, only if allowed, PyTorch `.bin` files
in the same layouts. Every tensor must be in exactly one file; otherwise an `InputError` is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from handglass.errors import InputError
from handglass.runtime.bundle.tensors import TensorFile
from handglass.runtime.system.json_text import parse_json
from handglass.runtime.system.regular_file import open_regular

MAX_JSON = 8 << 20
"""Largest config.json or index in bytes; an index of 10,000 tensors has 1 MB."""


class Shard(Protocol):
    """One open file with named tensors."""

    @property
    def names(self) -> Any: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> str: ...

    def array(self, name: str) -> np.ndarray: ...


def how_to_convert(name: str = "model.safetensors") -> str:
    """What to do about a pickle; `name`: of the file to make of it."""
    return (
        "loading it can be unsafe. Convert it once with safetensors.torch.save_file("
        f"torch.load(path, weights_only=True), '{name}'), or pass --allow-pickle"
    )


def open_shards(folder: Path, allow_pickle: bool) -> dict[str, Shard]:
    """Tensor name -> the open file that contains it."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return _indexed(index, TensorFile.open)
    files = sorted(path for path in folder.glob("*.safetensors") if not _is_other(path))
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise InputError(f"{folder}: several shards ({names}) but no {index.name} that lists them")
    if files:
        return _single(TensorFile.open(files[0]))
    return _pickled(folder, allow_pickle)


def _is_other(path: Path) -> bool:
    """Leftovers, such as the "._" files of macOS, and the weights once more for OpenCLIP."""
    return path.name.startswith((".", "open_clip_"))


def read_json(path: Path, has_large: bool = False) -> Any:
    """Parse a JSON file of at most MAX_JSON bytes; see `parse_json`. Raises InputError."""
    try:
        with open_regular(path) as file:
            return parse_json(file.read(MAX_JSON + 1), str(path), MAX_JSON, has_large)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _single(shard: Shard) -> dict[str, Shard]:
    return dict.fromkeys(shard.names, shard)


def _pickled(folder: Path, allow_pickle: bool) -> dict[str, Shard]:
    index = folder / "pytorch_model.bin.index.json"
    single = folder / "pytorch_model.bin"
    found = next((path for path in (index, single) if path.is_file()), None)
    if found is None:
        raise InputError(f"{folder}: no *.safetensors file, and no pytorch_model.bin either")
    if not allow_pickle:
        raise InputError(f"{found}: this checkpoint is a Python pickle, and {how_to_convert()}")
    from .pickled import PickledFile  # the only importer of torch in this package

    if found == index:
        return _indexed(index, PickledFile.open)
    return _single(PickledFile.open(single))


def _indexed(index: Path, open_file: Callable[[Path], Shard]) -> dict[str, Shard]:
    """Open the shards that an index lists, and check that each holds exactly the listed tensors."""
    owner = _weight_map(index)
    shards: dict[str, Shard] = {}
    for file_name in sorted(set(owner.values())):
        shard = _open_listed(index, file_name, open_file)
        _check_listed(index, file_name, set(shard.names), owner)
        shards[file_name] = shard
    return {name: shards[file_name] for name, file_name in owner.items()}


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index}: weight_map must be an object of tensor name -> file name")
    for name, file_name in weight_map.items():
        # A name with "/", ".." or a drive letter could point outside the folder.
        if not _is_plain_name(file_name):
            raise InputError(f"{index}: {name} is in {file_name!r}, which is outside the folder")
    return weight_map


def _is_plain_name(name: object) -> bool:
    if not isinstance(name, str) or name in ("", "..") or "\\" in name or "\0" in name:
        return False
    return Path(name).name == name


def _open_listed(index: Path, file_name: str, open_file: Callable[[Path], Shard]) -> Shard:
    path = index.parent / file_name
    if not path.is_file():
        raise InputError(f"{path}: the shard is missing, but {index.name} lists it")
    return open_file(path)


def _check_listed(index: Path, file_name: str, held: set[str], owner: dict[str, str]) -> None:
    listed = {name for name, file in owner.items() if file == file_name}
    if missing := sorted(listed - held):
        raise InputError(f"{index}: {missing[0]} is listed in {file_name}, but missing from it")
    for name in sorted(held - listed):
        if name in owner:
            raise InputError(f"{index}: {name} is in both {owner[name]} and {file_name}")
        raise InputError(f"{index}: {file_name} contains {name}, which the index does not list")
