"""How an encoder's pictures are resized and normalized: preprocessor_config.json of the
checkpoint, or the defaults of the architecture where it says nothing.
"""

from __future__ import annotations

import math
from dataclasses import replace

from handglass.errors import InputError
from handglass.runtime.bundle.entries import MethodEntry, VisionEntry

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.fields import Fields
from ..checkpoints.open_clip_config import ROUNDED
from ..checkpoints.preprocessor import LARGEST_SIDE

FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the filters."""
SHORTEST, SQUARE = ("CLIP", "Bit"), ("ViT", "DeiT", "Siglip")
"""How the names of processors begin that resize the shorter side to a number, or the whole picture
to a square of it."""
RESCALED = 1 / 255


def picture_inputs(checkpoint: Checkpoint, vision: VisionEntry) -> VisionEntry:
    """The entry as the file has it.

    Raises InputError for steps that are not supported, and if the pictures have another size than
    the position table.
    """
    found = checkpoint.preprocessor()
    if found is None:
        return vision
    fields = Fields(found[1], str(found[0]))
    for step in ("do_resize", "do_rescale", "do_normalize"):
        fields.expect(step, True)
    fields.expect("crop_pct", None)
    if not math.isclose(fields.number("rescale_factor", RESCALED), RESCALED, rel_tol=1e-9):
        fields.expect("rescale_factor", RESCALED)
    mean, std = (
        fields.numbers(key, 3) if fields.get(key) is not None else default
        for key, default in (("image_mean", vision.mean), ("image_std", vision.std))
    )
    return replace(vision, mean=mean, std=std, slicing=_slicing(fields, vision))


def _slicing(fields: Fields, vision: VisionEntry) -> MethodEntry:
    is_cropped = fields.flag("do_center_crop", vision.slicing.kind == "centre")
    side, method = vision.image_size, _filter(fields, vision)
    is_shorter = is_cropped and _resizes_shorter(fields, vision)
    width, height, shortest = _size(fields, "size", side if is_shorter else 0, side)
    if is_cropped:
        crop = _size(fields, "crop_size", 0, side)
        _check(fields, "crop_size", crop[:2], side)
        if not shortest:
            return _middle(fields, method, (width, height), side)
        if shortest < side:
            raise InputError(
                f"{fields.where}: size is {shortest}, less than crop_size {side}: not supported"
            )
        rounded = {"is_rounded": True} if fields.flag(ROUNDED, False) else {}
        return MethodEntry("centre", {"filter": method, "shortest": shortest, **rounded})
    if shortest:
        raise InputError(f"{fields.where}: size has shortest_edge without do_center_crop")
    _check(fields, "size", (width, height), side)
    return MethodEntry("square", {"filter": method})


def _resizes_shorter(fields: Fields, vision: VisionEntry) -> bool:
    """Whether a size that is a number alone is that of the shorter side."""
    for key in ("image_processor_type", "feature_extractor_type"):
        name = str(fields.get(key) or "")
        if name.startswith((*SHORTEST, *SQUARE)):
            return name.startswith(SHORTEST)
    return vision.slicing.kind == "centre"


def _middle(fields: Fields, method: str, size: tuple[int, int], side: int) -> MethodEntry:
    """The middle of a picture that is resized to a square, or the square if all of it is shown."""
    if size[0] != size[1] or size[0] < side:
        _check(fields, "size", size, side)
    if size[0] == side:
        return MethodEntry("square", {"filter": method})
    return MethodEntry("middle", {"filter": method, "whole": size[0]})


def _filter(fields: Fields, vision: VisionEntry) -> str:
    default = next(n for n, name in FILTERS.items() if name == vision.slicing.parameters["filter"])
    number = fields.integer("resample", default, minimum=0)
    if number not in FILTERS:
        known = ", ".join(f"{number} ({name})" for number, name in FILTERS.items())
        raise InputError(f"{fields.where}: resample is {number}; supported: {known}")
    return FILTERS[number]


def _size(fields: Fields, key: str, shortest: int, side: int) -> tuple[int, int, int]:
    """Width, height and shorter side, of which 0 are not stated; `shortest` and `side` are the
    defaults. A number alone is a square to crop, and a shorter side to resize to."""
    given = fields.get(key)
    if given is None:
        return (0, 0, shortest) if shortest else (side, side, 0)
    if isinstance(given, int):
        number = fields.integer(key, maximum=LARGEST_SIDE)
        return (0, 0, number) if shortest else (number, number, 0)
    section = fields.section(key)
    if section.get("shortest_edge") is not None:
        return 0, 0, section.integer("shortest_edge", maximum=LARGEST_SIDE)
    sides = (section.integer(name, maximum=LARGEST_SIDE) for name in ("width", "height"))
    return (*sides, 0)  # type: ignore[return-value]


def _check(fields: Fields, key: str, size: tuple[int, int], side: int) -> None:
    if size != (side, side):
        raise InputError(
            f"{fields.where}: {key} is {size[0]} x {size[1]} pixels, but config.json requires "
            f"image_size {side}"
        )
