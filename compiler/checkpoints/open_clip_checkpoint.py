"""A folder of OpenCLIP, with the interface of one of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.tensors import TensorFile

from .checkpoint import Checkpoint
from .open_clip_config import CONFIG, clip_config, pictures
from .open_clip_tensors import OpenClipTensors
from .shards import Shard, how_to_convert, read_json

SAFE, PICKLED = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
THEIRS = ("model.safetensors", "model.safetensors.index.json")
"""Weights of transformers, which many folders have, too."""


class OpenClipCheckpoint(Checkpoint):
    """Its configuration and its tensors are those of a CLIPModel."""

    def __init__(self, folder: Path, content: Any, shards: dict[str, Shard]) -> None:
        """Raises InputError for a model that is not supported."""
        self._where = folder / CONFIG
        config = clip_config(content, CONFIG)
        side = config["vision_config"]["image_size"]
        self._pictures = pictures(content, CONFIG, side)
        tensors = OpenClipTensors(shards)
        super().__init__(folder, config, dict.fromkeys(tensors.names, tensors))

    @classmethod
    def read_folder(cls, folder: Path, allow_pickle: bool = False) -> OpenClipCheckpoint:
        """Raises InputError for a missing or damaged file, and for a pickle unless
        `allow_pickle`."""
        content = read_json(folder / CONFIG)
        return cls(folder, content, _shards(folder, allow_pickle))

    def preprocessor(self) -> tuple[Path, dict[str, Any]] | None:
        return self._where, self._pictures

    def generation(self) -> dict[str, Any]:
        return {}


def is_open_clip(folder: Path) -> bool:
    """Whether the folder has weights of OpenCLIP, and none that transformers would read."""
    if not (folder / CONFIG).is_file():
        return False
    if not (folder / "config.json").is_file():
        return True
    return (folder / SAFE).is_file() and not any((folder / name).is_file() for name in THEIRS)


def _shards(folder: Path, allow_pickle: bool) -> dict[str, Shard]:
    safe, pickled = folder / SAFE, folder / PICKLED
    if safe.is_file():
        file: Shard = TensorFile.open(safe)
    elif not pickled.is_file():
        raise InputError(f"{folder}: no {SAFE}, and no {PICKLED} either")
    elif not allow_pickle:
        raise InputError(
            f"{pickled}: this checkpoint is a Python pickle, and {how_to_convert(SAFE)}"
        )
    else:
        from .pickled import PickledFile

        file = PickledFile.open(pickled)
    return dict.fromkeys(file.names, file)
