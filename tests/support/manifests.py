"""Manifest entries for tests: the MiniCPM-V prompt template, and pictures as one square tile."""

import dataclasses
from typing import Any

from handglass.runtime.bundle.entries import Around, MethodEntry, PromptEntry, VisionEntry

WHOLE = {"role": "picture", "left": 0, "top": 0, "right": 1, "bottom": 1}
"""The box of a whole picture, as the compiler writes it (which this does not import)."""


def seed_prompt(bos: str = "<s>") -> PromptEntry:
    return PromptEntry(
        bos=bos,
        roles={"user": Around("<用户>"), "assistant": Around("<AI>")},
        tiles={"picture": Around("<image>", "</image>")},
        reserved=("<s>", "<用户>", "<AI>", "<image>", "</image>", "<unk>", "</s>"),
        stop=("</s>",),
    )


def square(
    image_size: int,
    patch_size: int,
    query_num: int,
    side: int,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.5, 0.5, 0.5),
) -> VisionEntry:
    """`side`: rows of the position table."""
    return VisionEntry(
        image_size,
        patch_size,
        mean,
        std,
        MethodEntry("crops", {"boxes": [WHOLE]}),
        MethodEntry("bucket", {"side": side}),
        query_num,
    )


def grid_vision(multiple: Any = 56, levels: int = 2, **parameters: Any) -> VisionEntry:
    """MiniCPM-V 4.6's pictures; `parameters` are those of the slicing."""
    slicing = {"resolution": 448, "multiple": multiple, "max_slices": 9, **parameters}
    return VisionEntry(
        448,
        14,
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
        MethodEntry("grid", slicing),
        MethodEntry("floor", {"side": 70}),
        patches_per_row=1 << 2 * levels if levels else 16,
        window_levels=levels,
    )


def chatml_prompt(**changes: Any) -> PromptEntry:
    """MiniCPM-V 4.6's template."""
    header, end = "<|im_start|>assistant\n", "<|im_end|>\n"
    picture = Around("<image_id>{picture}</image_id><image>", "</image>")
    entry = PromptEntry(
        bos="",
        roles={
            "system": Around("<|im_start|>system\n", end),
            "user": Around("<|im_start|>user\n", end),
            "assistant": Around(header, end),
        },
        tiles={
            "picture": picture,
            "overview": picture,
            "slice": Around("<slice>", "</slice>"),
            "row_end": Around("<slice>", "</slice>\n"),
            "last": Around("<slice>", "</slice>"),
        },
        reserved=CHATML,
        stop=("<|im_end|>", "<|endoftext|>"),
        answer={
            "plain": f"{header}<think>\n\n</think>\n\n",
            "thinking": f"{header}<think>\n",
        },
        thoughts=Around("<think>", "</think>"),
        is_trimmed=True,
        between="\n",
    )
    return dataclasses.replace(entry, **changes)


CHATML = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<image>", "</image>",
    "<slice>", "</slice>", "<image_id>", "</image_id>", "<think>", "</think>",
)  # fmt: skip
