"""The workload that weights kernel times: one typical answer and the lengths of its parts.

An answer is one photo, a prompt of 80 tokens and 64 tokens decoded one by one. A kernel is timed at
the lengths of the answer; a record must not be slower at the other lengths either.
"""

from __future__ import annotations

from dataclasses import dataclass

from handglass.runtime.bundle.entries import VisionEntry

PROMPT, DECODED = 80, 64
OTHER_PROMPTS = (7, 333)


@dataclass(frozen=True)
class Part:
    """An exported function, its number of calls per answer and their lengths."""

    function: str
    calls: int
    lengths: dict[str, int]
    others: tuple[dict[str, int], ...]
    """Other lengths at which the function must not become slower."""


def parts_of(vision: VisionEntry | None, context: int) -> tuple[Part, ...]:
    """The parts of an answer within `context` positions."""
    prompt = min(PROMPT, context - 1)
    middle = min(prompt + DECODED // 2, context - 1)
    long = [n for n in OTHER_PROMPTS if n < context]
    return (
        *([] if vision is None else [_encode(vision)]),
        Part("prefill", 1, {"s": prompt, "pos": 0}, tuple({"s": n, "pos": 0} for n in long)),
        Part("decode", DECODED, {"pos": middle}, ({"pos": 0}, {"pos": context - 1})),
    )


def photo_tiles(vision: VisionEntry) -> int:
    """Tiles of a photo, which is larger than all its slices: each of them, and the overview."""
    parameters = vision.slicing.parameters
    if "boxes" in parameters:
        return len(parameters["boxes"])
    slices = int(parameters["max_slices"])
    return slices + 1 if slices > 1 else 1


def _encode(vision: VisionEntry) -> Part:
    patches = (vision.image_size // vision.patch_size) ** 2
    others = (_patches(vision, patches // 3 + 1),)
    return Part("encode_image", photo_tiles(vision), _patches(vision, patches), others)


def _patches(vision: VisionEntry, n: int) -> dict[str, int]:
    """`strip`: columns of the strip of patches that the vision tower reads. `m`: rows after windows
    of four are merged; `r`: rows of the result."""
    lengths = {"n": n, "strip": n * vision.patch_size}
    return lengths | ({"m": n // 4, "r": vision.rows(n)} if vision.window_levels else {})
