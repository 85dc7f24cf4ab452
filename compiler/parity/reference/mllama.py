"""The reference of Llama 3.2 Vision: an encoder of tiles, and Llama with cross-attention."""

from __future__ import annotations

import numpy as np

from ...models.mllama_config import MllamaConfig
from .arithmetic import Watch, Weights, unwatched
from .family import VISION, Eyes, Reference, Step
from .language import Names
from .tiled_vision import canvas, encode_tiles, in_bundle

NAMES = Names("language_model.model", "language_model.lm_head.weight")


def reference(config: MllamaConfig) -> Reference:
    vision, hidden_size = config.vision, config.language.hidden_size

    def encode(
        weights: Weights, x: np.ndarray, rows: int, cols: int, watch: Watch = unwatched
    ) -> np.ndarray:
        return encode_tiles(weights, vision, hidden_size, x, rows, cols)

    eyes = Eyes(
        lambda picture: [canvas(picture, vision)],
        {"encode_image": Step(VISION, encode)},
        lambda rows, cols: in_bundle(vision, rows, cols),
    )
    return Reference(config.language, NAMES, eyes)
