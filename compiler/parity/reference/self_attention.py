"""Causal self-attention of a decoder, with the options of the released models."""

from __future__ import annotations

import numpy as np

from ...models.config import LanguageConfig
from .arithmetic import Weights, attention, linear, normed, rms_weight, sigmoid, split_heads


def self_attention(
    weights: Weights,
    config: LanguageConfig,
    name: str,
    x: np.ndarray,
    positions: np.ndarray | None = None,
) -> np.ndarray:
    """x (s, D) -> (s, D). `positions` (s, 3): of a model with `rope_sections`."""
    heads, kv_heads, e = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    bias, parts = config.qkv_bias, 2 if config.has_output_gate else 1
    q = linear(weights, f"{name}.q_proj", x, heads * parts * e, bias)
    k = linear(weights, f"{name}.k_proj", x, kv_heads * e, bias)
    v = linear(weights, f"{name}.v_proj", x, kv_heads * e, bias)
    q, *gate = np.split(split_heads(q, heads), parts, axis=-1)  # of each head, its query and gate
    q, k = (
        _rotate(_head_norm(weights, config, f"{name}.{part}_norm", each), config, positions)
        for part, each in (("q", q), ("k", split_heads(k, kv_heads)))
    )
    y = attention(q, k, split_heads(v, kv_heads), causal=True)
    for each in gate:
        y = y * sigmoid(each.transpose(1, 0, 2).reshape(y.shape))
    return linear(weights, f"{name}.o_proj", y, config.hidden_size, bias=False)


def _head_norm(
    weights: Weights, config: LanguageConfig, name: str, heads: np.ndarray
) -> np.ndarray:
    if not config.qk_norm:
        return heads
    scale = rms_weight(weights, name, config.head_dim, config.are_norms_centred)
    return normed(heads, config.rms_norm_eps) * scale


def _rotate(x: np.ndarray, config: LanguageConfig, positions: np.ndarray | None) -> np.ndarray:
    """Rotate the first elements of heads (h, s, d): of r rotated elements, element j is paired with
    element j + r / 2."""
    rotated = config.head_dim if config.rotary_dim is None else config.rotary_dim
    half = rotated // 2
    frequency = np.float32(config.rope_theta) ** -(np.arange(half, dtype=np.float32) / half)
    if config.rope_divisors:
        frequency = frequency / np.array(config.rope_divisors, np.float32)
    angle = _positions(config, x.shape[1], half, positions) * frequency  # (s, r/2)
    cos, sin = (f(angle) * np.float32(config.rope_magnitude) for f in (np.cos, np.sin))
    a, b, rest = x[..., :half], x[..., half:rotated], x[..., rotated:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)


def _positions(
    config: LanguageConfig, s: int, half: int, positions: np.ndarray | None
) -> np.ndarray:
    """The position that rotates each pair: 0, 1, ..., or of three positions, that of the pair's
    axis: T, H and W in turn, T again where an axis has no pairs left. (s, 1) or (s, half)"""
    if positions is None or not config.rope_sections:
        return np.arange(s, dtype=np.float32)[:, None]
    axes = [j % 3 if j < 3 * config.rope_sections[j % 3] else 0 for j in range(half)]
    return positions[:, axes].astype(np.float32)
