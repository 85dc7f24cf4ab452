"""What a kernel's time is worth: one answer, and the lengths at which its parts run.

An answer is a picture, 80 tokens of prompt and 64 tokens that are decoded one by one. A kernel is
timed at the lengths of the answer; a record must also not be slower at the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..models.config import ModelConfig

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


def parts_of(config: ModelConfig, context: int) -> tuple[Part, ...]:
    """The parts of an answer of this model, with lengths that its cache can hold."""
    patches = (config.image_size // config.vision.patch_size) ** 2
    prompt = min(PROMPT, context - 1)
    middle = min(prompt + DECODED // 2, context - 1)
    long = [n for n in OTHER_PROMPTS if n < context]
    return (
        Part("encode_image", 1, _patches(config, patches), (_patches(config, patches // 3 + 1),)),
        Part("prefill", 1, {"s": prompt, "pos": 0}, tuple({"s": n, "pos": 0} for n in long)),
        Part("decode", DECODED, {"pos": middle}, ({"pos": 0}, {"pos": context - 1})),
    )


def _patches(config: ModelConfig, n: int) -> dict[str, int]:
    """`strip`: columns of the strip of patches that the vision tower reads."""
    return {"n": n, "strip": n * config.vision.patch_size}
