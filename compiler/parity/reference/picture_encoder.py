"""The reference of ViT, DeiT, DINO and DINOv2: from pixels to a row, and to scores of labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handglass.runtime.bundle.entries import VisionEntry
from handglass.runtime.prompt.preprocess import Picture

from ...models.picture_config import PictureConfig
from .arithmetic import Weights, layer_norm, linear
from .dual_encoder import shown_pixels
from .pixels import Pixels
from .resizing import resized
from .vision import embed_patches, encoder_layer


@dataclass(frozen=True)
class PictureReference:
    """The tower in numpy, and the pixels that it sees."""

    config: PictureConfig
    vision: VisionEntry

    def pixels(self, picture: Picture) -> Pixels:
        """The strip of a picture."""
        return shown_pixels(picture, self.vision)

    def encode_image(self, weights: Weights, strip: np.ndarray) -> np.ndarray:
        """Strip (3, p, p * n) -> (width,)."""
        config, x = self.config.vision, self._placed(weights, strip)
        for number in range(config.num_hidden_layers):
            x = encoder_layer(weights, config, self._name(f"{config.names.layers}.{number}"), x)
        x = layer_norm(weights, self._name(config.names.final_norm), x, config.layer_norm_eps)
        if "pooler.dense.weight" in weights and not self.config.labels:
            width = self.config.pooler_width
            return np.tanh(linear(weights, "pooler.dense", x[:1], width, alone=True))[0]
        if not self.config.is_double:
            return x[0]
        assert config.tokens is not None
        is_patches = self.config.kind.reads_patches
        return np.concatenate([x[0], x[config.tokens.count :].mean(0) if is_patches else x[1]])

    def classify(self, weights: Weights, row: np.ndarray) -> np.ndarray:
        """(width,) -> (labels,)"""
        names, labels = self.config.kind.heads, len(self.config.labels)
        parts = zip(names, np.split(row[None], len(names), axis=1), strict=True)
        scores = [linear(weights, name, part, labels, alone=True)[0] for name, part in parts]
        return np.asarray(np.mean(scores, axis=0))

    def _placed(self, weights: Weights, strip: np.ndarray) -> np.ndarray:
        """The input of the first layer: tokens, registers, patches."""
        config, tokens, d = self.config.vision, self.config.vision.tokens, self._width
        assert tokens is not None
        side, count = self.vision.image_size // self.vision.patch_size, len(tokens.placed)
        shape = (1, count + config.positions_per_side**2, d)
        (table,) = weights.read(self._name(config.names.positions), shape)
        patches = embed_patches(weights, config, self.config.prefix, strip)
        grid = table[count:]
        if len(grid) != side * side:
            a = -0.5 if tokens.antialias else -0.75
            grid = resized(grid, side, side, a, tokens.antialias)
        named = [weights.read(self._name(name), (1, 1, d))[0] for name in tokens.placed]
        parts = [np.concatenate(named) + table[:count]]
        if tokens.registers:
            name = self._name(tokens.registers)
            parts.append(weights.read(name, (1, tokens.register_count, d))[0])
        return np.concatenate([*parts, patches + grid])

    @property
    def _width(self) -> int:
        return self.config.vision.hidden_size

    def _name(self, name: str) -> str:
        return f"{self.config.prefix}.{name}" if self.config.prefix else name


def reference(config: PictureConfig, vision: VisionEntry, weights: Weights) -> PictureReference:
    return PictureReference(config, vision)
