"""Holds preprocessor_config.json against what a family compiles in: other values are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.entries import ALWAYS, GRIDS, VisionEntry

from .checkpoint import Checkpoint

SMALL = "small_image_upsize"


def preprocessed(
    checkpoint: Checkpoint, vision: VisionEntry | None, keeps_small: bool = False
) -> VisionEntry | None:
    """The entry as the file has it: of a model that may keep the size of small pictures, with its
    `small_image_upsize`.

    Raises InputError if the file cuts or normalizes pictures in a way that is not compiled in. Only
    models that plan a grid of slices follow such a file.
    """
    if vision is None or vision.slicing.kind != "grid":
        return vision
    found = checkpoint.preprocessor()
    if found is None:
        return vision
    path, given = found
    for key, compiled in _expected(vision).items():
        if given.get(key, compiled) != compiled:
            raise InputError(
                f"{path}: {key} is {given[key]!r:.100}, but only {compiled!r} is supported"
            )
    if not keeps_small:
        return vision
    return replace(vision, slicing=replace(vision.slicing, kind=_method(given, path)))


def _method(given: dict[str, Any], path: Path) -> str:
    kinds, rule = {rule: kind for kind, rule in GRIDS.items()}, given.get(SMALL, ALWAYS)
    if not isinstance(rule, str) or rule not in kinds:
        raise InputError(f"{path}: {SMALL} is {rule!r:.100}; known: {', '.join(kinds)}")
    return kinds[rule]


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
