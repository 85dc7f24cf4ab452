"""The SigLIP tower: patches, position table, pre-LN encoder layers, final norm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from handglass.runtime.prompt.positions import position_ids

from ...models.config import VisionConfig
from .arithmetic import Weights, attention, layer_norm, linear, split_heads
from .resizing import resized


def encode_vision(
    weights: Weights, config: VisionConfig, strip: np.ndarray, rows: int, cols: int
) -> np.ndarray:
    """Strip (3, p, p * n) -> features of each patch (n, hidden)."""
    x = embed_patches(weights, config, "vpm", strip) + positions(weights, config, rows, cols)
    for number in range(config.num_hidden_layers):
        x = encoder_layer(weights, config, f"vpm.{config.names.layers}.{number}", x)
    return layer_norm(weights, f"vpm.{config.names.final_norm}", x, config.layer_norm_eps)


def positions(weights: Weights, config: VisionConfig, rows: int, cols: int) -> np.ndarray:
    """The position of each patch of a grid (rows * cols, hidden)."""
    if config.resizes_positions:
        shape = (1, config.positions_per_side**2, config.hidden_size)
        (table,) = weights.read(f"vpm.{config.names.positions}", shape)
        return resized(table, rows, cols, a=-0.5, antialias=True)
    ids = position_ids(rows, cols, config.positions_per_side)
    return table_rows(weights, config, "vpm", ids)


def table_rows(weights: Weights, config: VisionConfig, name: str, ids: np.ndarray) -> np.ndarray:
    """The rows `ids` of the position table. (n, hidden)"""
    shape = (config.positions_per_side**2, config.hidden_size)
    return weights.read(f"{name}.{config.names.positions}", shape)[ids]


def embed_patches(
    weights: Weights, config: VisionConfig, name: str, strip: np.ndarray
) -> np.ndarray:
    """The patch convolution (stride = kernel size) as one matrix product. (n, hidden)"""
    p, hidden = config.patch_size, config.hidden_size
    patches = strip.reshape(3, p, -1, p).transpose(2, 0, 1, 3).reshape(-1, 3 * p * p)
    convolution = f"{name}.{config.names.patches}"
    kernel = weights.read(f"{convolution}.weight", (hidden, 3, p, p)).reshape(hidden, -1)
    rounded = weights.rounded(f"{convolution}.weight", patches)
    return rounded @ kernel.T + weights.read(f"{convolution}.bias", (hidden,))


def encoder_layer(weights: Weights, config: VisionConfig, name: str, x: np.ndarray) -> np.ndarray:
    hidden, eps, names = config.hidden_size, config.layer_norm_eps, config.names
    y = layer_norm(weights, f"{name}.{names.norms[0]}", x, eps)
    q, k, v = queries_keys_values(weights, config, [f"{name}.{part}" for part in names.qkv], y)
    x = x + linear(weights, f"{name}.{names.out}", attention(q, k, v), hidden)
    y = layer_norm(weights, f"{name}.{names.norms[1]}", x, eps)
    y = linear(weights, f"{name}.mlp.fc1", y, config.intermediate_size)
    y = gelu_tanh(y) if config.hidden_act == "gelu_pytorch_tanh" else gelu(y)
    return x + linear(weights, f"{name}.mlp.fc2", y, hidden)


def queries_keys_values(
    weights: Weights, config: VisionConfig, names: Sequence[str], x: np.ndarray
) -> Iterator[np.ndarray]:
    """q, k and v of x (n, hidden), each (heads, n, head_dim); `names` are three linear layers, or
    one that yields all three."""
    width = 3 * config.hidden_size // len(names)
    rows = np.concatenate([linear(weights, name, x, width) for name in names], axis=1)
    for part in np.split(rows, 3, axis=1):
        yield split_heads(part, config.num_attention_heads)


def gelu(x: np.ndarray) -> np.ndarray:
    """The exact form."""
    erf = np.vectorize(math.erf, otypes=[np.float32])
    return x * np.float32(0.5) * (1 + erf(x * np.float32(0.5**0.5)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """The tanh approximation, which the weights are trained with."""
    inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x**3)
    return x * np.float32(0.5) * (1 + np.tanh(inner))
