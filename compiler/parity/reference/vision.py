"""The tower of SigLIP and CLIP: patches, position table, pre-LN encoder layers, final norm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from handglass.runtime.prompt.positions import position_ids

from ...models.config import VisionConfig
from ...models.vision import LayerConfig
from .arithmetic import (
    Watch,
    Weights,
    attention,
    layer_norm,
    linear,
    sigmoid,
    silu,
    split_heads,
    unwatched,
)
from .resizing import resized


def encode_vision(
    weights: Weights,
    config: VisionConfig,
    strip: np.ndarray,
    rows: int,
    cols: int,
    watch: Watch = unwatched,
) -> np.ndarray:
    """Strip (3, p, p * n) -> features of each patch (n, hidden)."""
    x = embed_patches(weights, config, "vpm", strip) + positions(weights, config, rows, cols)
    for number in range(config.num_hidden_layers):
        watch(x)
        x = encoder_layer(weights, config, f"vpm.{config.names.layers}.{number}", x)
    watch(x)
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
    """The patch convolution (stride = kernel size) as one matrix product. (n, hidden) `name`: the
    prefix of the tower, or nothing."""
    p, hidden = config.patch_size, config.hidden_size
    patches = strip.reshape(3, p, -1, p).transpose(2, 0, 1, 3).reshape(-1, 3 * p * p)
    convolution = f"{name}.{config.names.patches}".lstrip(".")
    kernel = weights.read(f"{convolution}.weight", (hidden, 3, p, p)).reshape(hidden, -1)
    rounded = weights.rounded(f"{convolution}.weight", patches)
    patches = rounded @ kernel.T
    if not config.names.has_patch_bias:
        return patches
    return patches + weights.read(f"{convolution}.bias", (hidden,))


def encoder_layer(
    weights: Weights, config: LayerConfig, name: str, x: np.ndarray, causal: bool = False
) -> np.ndarray:
    eps, names = config.layer_norm_eps, config.names
    y = layer_norm(weights, f"{name}.{names.norms[0]}", x, eps)
    x = x + _scaled(weights, config, name, 0, _attended(weights, config, name, y, causal))
    y = layer_norm(weights, f"{name}.{names.norms[1]}", x, eps)
    return x + _scaled(weights, config, name, 1, _mlp(weights, config, name, y))


def post_norm_layer(weights: Weights, config: LayerConfig, name: str, x: np.ndarray) -> np.ndarray:
    """The layer of BERT, which normalizes the sums."""
    eps, names = config.layer_norm_eps, config.names
    first, second = (f"{name}.{norm}" for norm in names.norms)
    x = layer_norm(weights, first, x + _attended(weights, config, name, x), eps)
    return layer_norm(weights, second, x + _mlp(weights, config, name, x), eps)


def _attended(
    weights: Weights, config: LayerConfig, name: str, x: np.ndarray, causal: bool = False
) -> np.ndarray:
    names = config.names
    q, k, v = queries_keys_values(weights, config, [f"{name}.{part}" for part in names.qkv], x)
    return linear(weights, f"{name}.{names.out}", attention(q, k, v, causal), config.hidden_size)


def _mlp(weights: Weights, config: LayerConfig, name: str, x: np.ndarray) -> np.ndarray:
    (first, second), f = (f"{name}.{part}" for part in config.names.mlp), config.intermediate_size
    if config.names.is_gated:
        gates, values = np.split(linear(weights, first, x, 2 * f), 2, axis=1)
        return linear(weights, second, silu(gates) * values, config.hidden_size)
    hidden = activated(linear(weights, first, x, f), config.hidden_act)
    return linear(weights, second, hidden, config.hidden_size)


def _scaled(
    weights: Weights, config: LayerConfig, name: str, part: int, x: np.ndarray
) -> np.ndarray:
    scales = config.names.scales
    return x * weights.read(f"{name}.{scales[part]}", x.shape[1:]) if scales else x


def queries_keys_values(
    weights: Weights, config: LayerConfig, names: Sequence[str], x: np.ndarray
) -> Iterator[np.ndarray]:
    """q, k and v of x (n, hidden), each (heads, n, head_dim); `names` are three linear layers, or
    one that yields all three."""
    width = 3 * config.hidden_size // len(names)
    rows = np.concatenate([linear(weights, name, x, width) for name in names], axis=1)
    for part in np.split(rows, 3, axis=1):
        yield split_heads(part, config.num_attention_heads)


def activated(x: np.ndarray, hidden_act: str) -> np.ndarray:
    """The activation that config.json names."""
    if hidden_act == "quick_gelu":
        return x * sigmoid(np.float32(1.702) * x)
    return gelu_tanh(x) if hidden_act == "gelu_pytorch_tanh" else gelu(x)


def gelu(x: np.ndarray) -> np.ndarray:
    """The exact form."""
    erf = np.vectorize(math.erf, otypes=[np.float32])
    return x * np.float32(0.5) * (1 + erf(x * np.float32(0.5**0.5)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """The tanh approximation, which the weights are trained with."""
    inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x**3)
    return x * np.float32(0.5) * (1 + np.tanh(inner))
