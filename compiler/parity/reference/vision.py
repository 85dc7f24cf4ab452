"""The SigLIP tower: patches, position table, pre-LN encoder layers, final norm."""

from __future__ import annotations

import numpy as np

from handglass.runtime.prompt.positions import position_ids

from ...models.config import VisionConfig
from .arithmetic import Weights, attention, layer_norm, linear, split_heads


def encode_vision(
    weights: Weights, config: VisionConfig, strip: np.ndarray, rows: int, cols: int
) -> np.ndarray:
    """Strip (3, p, p * n) -> features of each patch (n, hidden)."""
    x = _embed_patches(weights, config, strip)
    side = config.positions_per_side
    table = weights.read(
        "vpm.embeddings.position_embedding.weight", (side * side, config.hidden_size)
    )
    x = x + table[position_ids(rows, cols, side)]
    for number in range(config.num_hidden_layers):
        x = _layer(weights, config, f"vpm.encoder.layers.{number}", x)
    return layer_norm(weights, "vpm.post_layernorm", x, config.layer_norm_eps)


def _embed_patches(weights: Weights, config: VisionConfig, strip: np.ndarray) -> np.ndarray:
    """The patch convolution (stride = kernel size) as one matrix product. (n, hidden)"""
    p, hidden = config.patch_size, config.hidden_size
    patches = strip.reshape(3, p, -1, p).transpose(2, 0, 1, 3).reshape(-1, 3 * p * p)
    name = "vpm.embeddings.patch_embedding"
    kernel = weights.read(f"{name}.weight", (hidden, 3, p, p)).reshape(hidden, -1)
    rounded = weights.rounded(f"{name}.weight", patches)
    return rounded @ kernel.T + weights.read(f"{name}.bias", (hidden,))


def _layer(weights: Weights, config: VisionConfig, name: str, x: np.ndarray) -> np.ndarray:
    hidden, eps = config.hidden_size, config.layer_norm_eps
    y = layer_norm(weights, f"{name}.layer_norm1", x, eps)
    q, k, v = (
        split_heads(
            linear(weights, f"{name}.self_attn.{part}_proj", y, hidden), config.num_attention_heads
        )
        for part in "qkv"
    )
    x = x + linear(weights, f"{name}.self_attn.out_proj", attention(q, k, v), hidden)
    y = layer_norm(weights, f"{name}.layer_norm2", x, eps)
    y = _gelu(linear(weights, f"{name}.mlp.fc1", y, config.intermediate_size))
    return x + linear(weights, f"{name}.mlp.fc2", y, hidden)


def _gelu(x: np.ndarray) -> np.ndarray:
    """The tanh approximation, which the weights are trained with."""
    inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x**3)
    return x * np.float32(0.5) * (1 + np.tanh(inner))
