"""The reference of MiniCPM-V 4.6 and MiniCPM-OCR: SigLIP merged by windows, and Qwen3.5."""

from __future__ import annotations

import numpy as np

from handglass.runtime.bundle.entries import ALWAYS

from ...models.minicpmv46 import MiniCPMV46Config
from .arithmetic import Watch, Weights, unwatched
from .family import VISION, Eyes, Reference, Step
from .language import Names
from .merged_vision import encode_merged, in_windows
from .slices import sliced

NAMES = Names("model.language_model", "lm_head.weight")
RESOLUTION, MAX_SLICES = 448, 9


def reference(config: MiniCPMV46Config, small: str = ALWAYS) -> Reference:
    """`small`: which small pictures are enlarged."""
    vision, merger = config.vision, config.merger
    patch, levels = vision.patch_size, merger.levels

    def encode(
        weights: Weights, x: np.ndarray, rows: int, cols: int, watch: Watch = unwatched
    ) -> np.ndarray:
        return encode_merged(weights, vision, merger, x, rows, cols, watch=watch)

    eyes = Eyes(
        lambda picture: sliced(picture, patch, RESOLUTION, patch << levels, MAX_SLICES, small),
        {"encode_image": Step(VISION, encode)},
        lambda rows, cols: in_windows(rows, cols, levels),
    )
    return Reference(config.language, NAMES, eyes)
