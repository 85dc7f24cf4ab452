"""The reference of BERT as an encoder of texts: from token ids to one row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handglass.runtime.bundle.entries import VisionEntry

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.sentence_files import MEAN, sentence_files
from ...models.sentence_encoder import SentenceConfig
from .arithmetic import Weights, layer_norm
from .vision import post_norm_layer


@dataclass(frozen=True)
class SentenceReference:
    """The tower in numpy."""

    config: SentenceConfig
    is_mean: bool
    """Whether the rows of all tokens are averaged; else the first one is taken."""

    def embed(self, weights: Weights, ids: np.ndarray) -> np.ndarray:
        """ids (s,) -> (s, hidden): tokens, their positions and the first token type, normalized."""
        text, name = self.config.text, "embeddings"
        d, length = text.hidden_size, text.max_position_embeddings
        words = weights.read(f"{name}.word_embeddings.weight", (text.vocab_size, d))[ids]
        places = weights.read(f"{name}.position_embeddings.weight", (length, d))[: len(ids)]
        types = weights.read(f"{name}.token_type_embeddings.weight", (self.config.types, d))
        x = words + places + types[0]
        return layer_norm(weights, f"{name}.LayerNorm", x, text.layer_norm_eps)

    def encode_text(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """The result of `embed` -> (hidden,)."""
        text = self.config.text
        for number in range(text.num_hidden_layers):
            x = post_norm_layer(weights, text, f"{text.names.layers}.{number}", x)
        return np.asarray(x.mean(0) if self.is_mean else x[0])


def reference(
    config: SentenceConfig, vision: VisionEntry | None, weights: Checkpoint
) -> SentenceReference:
    return SentenceReference(config, sentence_files(weights.folder).pooling == MEAN)
