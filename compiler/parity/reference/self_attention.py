"""Causal self-attention of a decoder, with the options of the released models."""

from __future__ import annotations

import numpy as np

from ...models.config import LanguageConfig
from .arithmetic import Weights, attention, linear, normed, rms_weight, sigmoid, split_heads


def self_attention(
    weights: Weights, config: LanguageConfig, name: str, x: np.ndarray
) -> np.ndarray:
    """x (s, D) -> (s, D)"""
    heads, kv_heads, e = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    bias, parts = config.qkv_bias, 2 if config.has_output_gate else 1
    q = linear(weights, f"{name}.q_proj", x, heads * parts * e, bias)
    k = linear(weights, f"{name}.k_proj", x, kv_heads * e, bias)
    v = linear(weights, f"{name}.v_proj", x, kv_heads * e, bias)
    q, *gate = np.split(split_heads(q, heads), parts, axis=-1)  # of each head, its query and gate
    q, k = (
        _rotate(_head_norm(weights, config, f"{name}.{part}_norm", each), config)
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


def _rotate(x: np.ndarray, config: LanguageConfig) -> np.ndarray:
    """Rotary positions 0, 1, ... on the first elements of heads (h, s, d): of r rotated elements,
    element j is paired with element j + r / 2."""
    rotated = config.head_dim if config.rotary_dim is None else config.rotary_dim
    half = rotated // 2
    frequency = np.float32(config.rope_theta) ** -(np.arange(half, dtype=np.float32) / half)
    if config.rope_divisors:
        frequency = frequency / np.array(config.rope_divisors, np.float32)
    angle = np.arange(x.shape[1], dtype=np.float32)[:, None] * frequency  # (s, r/2)
    cos, sin = (f(angle) * np.float32(config.rope_magnitude) for f in (np.cos, np.sin))
    a, b, rest = x[..., :half], x[..., half:rotated], x[..., rotated:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)
