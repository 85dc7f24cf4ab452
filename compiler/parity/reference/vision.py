"""The SigLIP tower: patches, position table, pre-LN encoder layers, final norm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from handglass.runtime.prompt.positions import position_ids

from ...models.config import VisionConfig
from .arithmetic import Weights, attention, layer_norm, linear, split_heads


def encode_vision(
    weights: Weights, config: VisionConfig, strip: np.ndarray, rows: int, cols: int
) -> np.ndarray:
    """Strip (3, p, p * n) -> features of each patch (n, hidden)."""
    ids = position_ids(rows, cols, config.positions_per_side)
    x = embed_patches(weights, config, "vpm.embeddings", strip, ids)
    for number in range(config.num_hidden_layers):
        x = encoder_layer(weights, config, f"vpm.encoder.layers.{number}", x)
    return layer_norm(weights, "vpm.post_layernorm", x, config.layer_norm_eps)


def embed_patches(
    weights: Weights, config: VisionConfig, name: str, strip: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    """The patch convolution (stride = kernel size) as one matrix product, and the rows `ids` of the
    position table. (n, hidden)"""
    p, hidden, side = config.patch_size, config.hidden_size, config.positions_per_side
    patches = strip.reshape(3, p, -1, p).transpose(2, 0, 1, 3).reshape(-1, 3 * p * p)
    convolution = f"{name}.patch_embedding"
    kernel = weights.read(f"{convolution}.weight", (hidden, 3, p, p)).reshape(hidden, -1)
    rounded = weights.rounded(f"{convolution}.weight", patches)
    x = rounded @ kernel.T + weights.read(f"{convolution}.bias", (hidden,))
    return x + weights.read(f"{name}.position_embedding.weight", (side * side, hidden))[ids]


def encoder_layer(weights: Weights, config: VisionConfig, name: str, x: np.ndarray) -> np.ndarray:
    hidden, eps = config.hidden_size, config.layer_norm_eps
    y = layer_norm(weights, f"{name}.layer_norm1", x, eps)
    q, k, v = queries_keys_values(weights, config, f"{name}.self_attn", y)
    x = x + linear(weights, f"{name}.self_attn.out_proj", attention(q, k, v), hidden)
    y = layer_norm(weights, f"{name}.layer_norm2", x, eps)
    y = gelu_tanh(linear(weights, f"{name}.mlp.fc1", y, config.intermediate_size))
    return x + linear(weights, f"{name}.mlp.fc2", y, hidden)


def queries_keys_values(
    weights: Weights, config: VisionConfig, name: str, x: np.ndarray
) -> Iterator[np.ndarray]:
    """q, k and v of x (n, hidden), each (heads, n, head_dim)."""
    for part in "qkv":
        y = linear(weights, f"{name}.{part}_proj", x, config.hidden_size)
        yield split_heads(y, config.num_attention_heads)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """The tanh approximation, which the weights are trained with."""
    inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x**3)
    return x * np.float32(0.5) * (1 + np.tanh(inner))
