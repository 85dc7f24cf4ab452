"""Holds preprocessor_config.json against what a family compiles in: other values are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.entries import ALWAYS, GRIDS, TILED, VisionEntry

from .checkpoint import Checkpoint
from .fields import Fields

SMALL = "small_image_upsize"
LARGEST_SIDE = 1 << 11
BILINEAR = 2
"""Pillow's number of the filter."""


def preprocessed(
    checkpoint: Checkpoint, vision: VisionEntry | None, keeps_small: bool = False
) -> VisionEntry | None:
    """The entry as the file has it: of a model that may keep the size of small pictures, with its
    `small_image_upsize`.

    Raises InputError if the file cuts or normalizes pictures in a way that is not compiled in. Only
    models that plan a grid of slices, or a canvas of tiles, follow such a file.
    """
    if vision is None or vision.slicing.kind not in EXPECTED:
        return vision
    found = checkpoint.preprocessor()
    if found is None:
        return vision
    path, given = found
    for key, compiled in EXPECTED[vision.slicing.kind](vision).items():
        if given.get(key, compiled) != compiled:
            raise InputError(
                f"{path}: {key} is {given[key]!r:.100}, but only {compiled!r} is supported"
            )
    if not keeps_small:
        return vision
    return replace(vision, slicing=replace(vision.slicing, kind=_method(given, path)))


def picture_side(checkpoint: Checkpoint, default: int) -> int:
    """The side of the square that pictures are cut to, or resized to if they are not cut.

    Raises InputError for one that is no square.
    """
    found = checkpoint.preprocessor()
    if found is None:
        return default
    fields = Fields(found[1], str(found[0]))
    key = "crop_size" if fields.flag("do_center_crop", True) else "size"
    if not isinstance(fields.get(key), dict):
        return fields.integer(key, default, maximum=LARGEST_SIDE)
    section = fields.section(key)
    height, width = (section.integer(name, maximum=LARGEST_SIDE) for name in ("height", "width"))
    if height != width:
        raise InputError(f"{fields.where}: {key} is {width} x {height} pixels, but must be square")
    return height


def _method(given: dict[str, Any], path: Path) -> str:
    kinds, rule = {rule: kind for kind, rule in GRIDS.items()}, given.get(SMALL, ALWAYS)
    if not isinstance(rule, str) or rule not in kinds:
        raise InputError(f"{path}: {SMALL} is {rule!r:.100}; known: {', '.join(kinds)}")
    return kinds[rule]


def _of_tiles(vision: VisionEntry) -> dict[str, Any]:
    side = vision.image_size
    return {
        "size": {"height": side, "width": side},
        "max_image_tiles": vision.slicing.parameters["max_tiles"],
        "resample": BILINEAR,
        "image_mean": list(vision.mean),
        "image_std": list(vision.std),
        **dict.fromkeys(("do_resize", "do_pad", "do_rescale", "do_normalize"), True),
    }


def _of_grid(vision: VisionEntry) -> dict[str, Any]:
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


EXPECTED = {"grid": _of_grid, TILED: _of_tiles}
"""Method of slicing -> the values that are compiled in, by their keys."""
