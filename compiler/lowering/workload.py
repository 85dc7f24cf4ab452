"""The workload that weights kernel times: one typical answer and the lengths of its parts.

An answer is one photo, a prompt of 80 tokens and 64 tokens decoded one by one; that of an encoder
is one picture, one text, or both. A kernel is timed at the lengths of the answer; a record must
not be slower at the other lengths either.
"""

from __future__ import annotations

from dataclasses import dataclass

from handglass.runtime.bundle.canvases import padded
from handglass.runtime.bundle.entries import TILED, VisionEntry

PROMPT, DECODED = 80, 64
OTHER_PROMPTS = (7, 333)
CAPTION = 9
"""Tokens of a short text, with those around it."""


@dataclass(frozen=True)
class Part:
    """An exported function, its number of calls per answer and their lengths."""

    function: str
    calls: int
    lengths: dict[str, int]
    others: tuple[dict[str, int], ...]
    """Other lengths at which the function must not become slower."""


def parts_of(
    vision: VisionEntry | None, context: int, generates: bool = True, has_texts: bool = True
) -> tuple[Part, ...]:
    """The parts of an answer within `context` positions; not `generates`: of an encoder, of
    pictures alone if it does not have texts."""
    if not generates:
        caption = {"s": min(CAPTION, context)}
        text = Part("encode_text", 1, {"s": context}, (caption,))
        pictures = () if vision is None else (_encode(vision, 1),)
        return (*pictures, text) if has_texts else pictures
    prompt = min(PROMPT, context - 1)
    middle = min(prompt + DECODED // 2, context - 1)
    long = [n for n in OTHER_PROMPTS if n < context]
    if vision is not None and vision.slicing.kind == TILED:
        return _seeing(vision, prompt, middle, long)
    return (
        *([] if vision is None else [_encode(vision, photo_tiles(vision))]),
        Part("prefill", 1, {"s": prompt, "pos": 0}, tuple({"s": n, "pos": 0} for n in long)),
        Part("decode", DECODED, {"pos": middle}, ({"pos": 0}, {"pos": context - 1})),
    )


def _seeing(vision: VisionEntry, prompt: int, middle: int, long: list[int]) -> tuple[Part, ...]:
    """Those of a model whose text sees the rows of a picture of as many tiles as it can have."""
    tiles = int(vision.slicing.parameters["max_tiles"])
    shown = tiled_lengths(vision, tiles)
    seen = {"seen": shown["r"]}
    return (
        Part("encode_image", 1, shown, (tiled_lengths(vision, 1),)),
        Part("show_pictures", 1, {"r": shown["r"], "first": 0}, ()),
        Part(
            "prefill_seeing",
            1,
            {"s": prompt, "pos": 0, **seen},
            tuple({"s": n, "pos": 0, **seen} for n in long),
        ),
        Part("decode_seeing", DECODED, {"pos": middle, **seen}, ({"pos": 0, **seen},)),
    )


def tiled_lengths(vision: VisionEntry, tiles: int) -> dict[str, int]:
    """Of `encode_image` for a picture of some of the tiles that are encoded together."""
    rows = (vision.image_size // vision.patch_size) ** 2 + 1
    n = int(vision.slicing.parameters["max_tiles"]) * padded(rows)
    return {"n": n, "strip": n * vision.patch_size, "r": tiles * rows}


def photo_tiles(vision: VisionEntry) -> int:
    """Tiles of a photo, which is larger than all its slices: each of them, and the overview."""
    parameters = vision.slicing.parameters
    if vision.slicing.kind == TILED:
        return 1
    if "boxes" in parameters:
        return len(parameters["boxes"])
    slices = int(parameters["max_slices"])
    return slices + 1 if slices > 1 else 1


def _encode(vision: VisionEntry, tiles: int) -> Part:
    patches = (vision.image_size // vision.patch_size) ** 2
    others = (_patches(vision, patches // 3 + 1),)
    return Part("encode_image", tiles, _patches(vision, patches), others)


def _patches(vision: VisionEntry, n: int) -> dict[str, int]:
    """`strip`: columns of the strip of patches that the vision tower reads. `m`: rows after windows
    of four are merged; `r`: rows of the result."""
    lengths = {"n": n, "strip": n * vision.patch_size}
    return lengths | ({"m": n // 4, "r": vision.rows(n)} if vision.window_levels else {})
