"""Holds preprocessor_config.json against what a family compiles in: other values are refused."""

from __future__ import annotations

from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.entries import VisionEntry

from .checkpoint import Checkpoint
from .shards import read_json

FILE = "preprocessor_config.json"


def check_preprocessor(checkpoint: Checkpoint, vision: VisionEntry | None) -> None:
    """Raise InputError if the file cuts or normalizes pictures in another way.

    Only models that plan a grid of slices follow such a file.
    """
    path = checkpoint.folder / FILE
    if vision is None or vision.slicing.kind != "grid" or not path.is_file():
        return
    given = read_json(path)
    if not isinstance(given, dict):
        raise InputError(f"{path}: expected an object")
    for key, compiled in _expected(vision).items():
        if given.get(key, compiled) != compiled:
            raise InputError(
                f"{path}: {key} is {given[key]!r:.100}, but only {compiled!r} is supported"
            )


def _expected(vision: VisionEntry) -> dict[str, Any]:
    grid, mean, std = vision.slicing.parameters, list(vision.mean), list(vision.std)
    slices = grid["max_slices"]
    return {
        "scale_resolution": grid["resolution"],
        "patch_size": vision.patch_size,
        "slice_mode": slices > 1,
        **({"max_slice_nums": slices} if slices > 1 else {}),
        **dict.fromkeys(("image_mean", "norm_mean"), mean),
        **dict.fromkeys(("image_std", "norm_std"), std),
    }
