"""What a kernel's time is worth: one answer, and the lengths at which its parts run.

An answer is a picture, 80 tokens of prompt and 64 tokens that are decoded one by one. A kernel is
timed at the lengths of the answer; a record must also not be slower at the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from handglass.runtime.bundle.entries import VisionEntry

PROMPT, DECODED = 80, 64
OTHER_PROMPTS = (7, 333)


@dataclass(frozen=True)
class Part:
    """An exported function, how often an answer calls it and with which lengths."""

    function: str
    calls: int
    lengths: dict[str, int]
    others: tuple[dict[str, int], ...]
    """Lengths at which it must not become slower."""


def parts_of(vision: VisionEntry | None, tiles: int, context: int) -> tuple[Part, ...]:
    """The parts of an answer about a picture of so many tiles, at lengths that the state holds."""
    prompt = min(PROMPT, context - 1)
    middle = min(prompt + DECODED // 2, context - 1)
    long = [n for n in OTHER_PROMPTS if n < context]
    return (
        *([] if vision is None else [_encode(vision, tiles)]),
        Part("prefill", 1, {"s": prompt, "pos": 0}, tuple({"s": n, "pos": 0} for n in long)),
        Part("decode", DECODED, {"pos": middle}, ({"pos": 0}, {"pos": context - 1})),
    )


def _encode(vision: VisionEntry, tiles: int) -> Part:
    patches = (vision.image_size // vision.patch_size) ** 2
    others = (_patches(vision, patches // 3 + 1),)
    return Part("encode_image", tiles, _patches(vision, patches), others)


def _patches(vision: VisionEntry, n: int) -> dict[str, int]:
    """`strip`: columns of the strip of patches that the vision tower reads."""
    return {"n": n, "strip": n * vision.patch_size}
