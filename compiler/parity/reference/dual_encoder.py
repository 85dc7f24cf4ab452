"""The reference of SigLIP and CLIP: from pixels, and from token ids, to the row of each tower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from handglass.runtime.bundle.entries import VisionEntry
from handglass.runtime.prompt.preprocess import Picture, read_picture

from ...models.dual_config import DualConfig
from .arithmetic import Weights, attention, layer_norm, linear, split_heads
from .pixels import Pixels, patches_of
from .vision import activated, embed_patches, encoder_layer

VISION, TEXT = "vision_model", "text_model"


@dataclass(frozen=True)
class DualReference:
    """Both towers in numpy, and the pixels that the first one sees."""

    config: DualConfig
    vision: VisionEntry

    def pixels(self, picture: Picture) -> Pixels:
        """The strip of a picture."""
        return shown_pixels(picture, self.vision)

    def encode_image(self, weights: Weights, strip: np.ndarray) -> np.ndarray:
        """Strip (3, p, p * n) -> (width,)."""
        config = self.config.vision
        x = embed_patches(weights, config, VISION, strip)
        if self.config.class_tokens:
            token = weights.read(f"{VISION}.{config.names.class_token}", (config.hidden_size,))
            x = np.concatenate([token[None], x])
        positions = f"{VISION}.{config.names.positions}"
        x = x + weights.read(positions, (len(x), config.hidden_size))
        if config.names.first_norm:
            x = layer_norm(weights, f"{VISION}.{config.names.first_norm}", x, config.layer_norm_eps)
        for number in range(config.num_hidden_layers):
            x = encoder_layer(weights, config, f"{VISION}.{config.names.layers}.{number}", x)
        final = f"{VISION}.{config.names.final_norm}"
        if self.config.class_tokens:
            row = layer_norm(weights, final, x[:1], config.layer_norm_eps)
            width = self.config.width
            return linear(weights, "visual_projection", row, width, bias=False, alone=True)[0]
        return self._probed(weights, layer_norm(weights, final, x, config.layer_norm_eps))

    def _probed(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """The head of SigLIP: multi-head attention of one learned query, then an MLP."""
        config, head = self.config.vision, f"{VISION}.head"
        d, heads, name = config.hidden_size, config.num_attention_heads, f"{head}.attention"
        weight = weights.read(f"{name}.in_proj_weight", (3 * d, d))
        bias = weights.read(f"{name}.in_proj_bias", (3 * d,))
        query = weights.read(f"{head}.probe", (1, 1, d))[0] @ weight[:d].T + bias[:d]
        rows = weights.rounded(f"{name}.in_proj_weight", x) @ weight[d:].T + bias[d:]
        keys, values = (split_heads(part, heads) for part in np.split(rows, 2, axis=1))
        mixed = attention(split_heads(query, heads), keys, values)
        y = linear(weights, f"{name}.out_proj", mixed, d, alone=True)
        z = layer_norm(weights, f"{head}.layernorm", y, config.layer_norm_eps)
        z = linear(weights, f"{head}.mlp.fc1", z, config.intermediate_size, alone=True)
        z = activated(z, config.hidden_act)
        return (y + linear(weights, f"{head}.mlp.fc2", z, d, alone=True))[0]

    def embed(self, weights: Weights, ids: np.ndarray) -> np.ndarray:
        """ids (s,) -> (s, hidden): tokens and their positions."""
        config, name = self.config.text, f"{TEXT}.embeddings"
        d, length = config.hidden_size, config.max_position_embeddings
        tokens = weights.read(f"{name}.token_embedding.weight", (config.vocab_size, d))[ids]
        table = weights.read(f"{name}.position_embedding.weight", (length, d))
        return np.asarray(tokens + table[: len(ids)])

    def encode_text(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """The result of `embed` -> (width,): the row of the last token."""
        config, kind = self.config.text, self.config.kind
        for number in range(config.num_hidden_layers):
            layer = f"{TEXT}.encoder.layers.{number}"
            x = encoder_layer(weights, config, layer, x, causal=kind.is_causal)
        x = layer_norm(weights, f"{TEXT}.final_layer_norm", x, config.layer_norm_eps)
        name = "text_projection" if kind.is_causal else f"{TEXT}.head"
        width, bias = self.config.width, not kind.is_causal
        return linear(weights, name, x[-1:], width, bias=bias, alone=True)[0]


def shown_pixels(picture: Picture, entry: VisionEntry) -> Pixels:
    """The strip of a picture, with a second implementation of resizing and normalization."""
    image, size, parameters = read_picture(picture), entry.image_size, entry.slicing.parameters
    method = Image.Resampling[str(parameters["filter"]).upper()]
    if entry.slicing.kind == "centre":
        is_rounded = parameters.get("is_rounded") is True
        shown = middle(image, int(parameters["shortest"]), size, method, is_rounded)
    else:
        whole = int(parameters.get("whole", size))
        shown = cut(np.asarray(image.resize((whole, whole), method)), size)
    values = shown.astype(np.float64) * (1 / 255)
    mean, std = (np.asarray(numbers, np.float32) for numbers in (entry.mean, entry.std))
    return patches_of((values.astype(np.float32) - mean) / std, entry.patch_size)


def middle(
    image: Image.Image, shortest: int, side: int, method: int, is_rounded: bool
) -> np.ndarray:
    """The square of `side` pixels in the middle of the picture, whose shorter side becomes
    `shortest`; `is_rounded`: half a pixel of the border becomes an even number."""
    factor = [shortest * length / min(image.size) for length in image.size]
    return cut(np.asarray(image.resize((int(factor[0]), int(factor[1])), method)), side, is_rounded)


def cut(array: np.ndarray, side: int, is_rounded: bool = False) -> np.ndarray:
    """The square of `side` pixels in the middle."""
    halves = [(length - side) / 2 for length in array.shape[:2]]
    top, left = (int(np.rint(half) if is_rounded else np.floor(half)) for half in halves)
    return array[top : top + side, left : left + side]


def reference(config: DualConfig, vision: VisionEntry, weights: Weights) -> DualReference:
    return DualReference(config, vision)
