"""A layer of the decoder that attends to pictures (Llama 3.2 Vision), without a state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...models.config import LanguageConfig
from .arithmetic import Weights, attention, linear, normed, split_heads


@dataclass(frozen=True, eq=False)
class Shown:
    """What text sees from one place on: rows of a picture (m, D)."""

    rows: np.ndarray
    place: int


def cross_attention(
    weights: Weights, config: LanguageConfig, name: str, x: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """x (s, D) attends to rows (m, D) of a picture -> (s, D)."""
    heads, kv_heads, e = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    q = split_heads(linear(weights, f"{name}.q_proj", x, heads * e, bias=False), heads)
    projected = (linear(weights, f"{name}.{part}_proj", rows, kv_heads * e, False) for part in "kv")
    k, v = (split_heads(part, kv_heads) for part in projected)
    q, k = (
        normed(each, config.rms_norm_eps) * weights.read(f"{name}.{part}_norm.weight", (e,))
        for part, each in (("q", q), ("k", k))
    )
    return linear(weights, f"{name}.o_proj", attention(q, k, v), config.hidden_size, bias=False)


def gate(weights: Weights, name: str) -> np.ndarray:
    """The factor of a branch. (1,)"""
    return np.tanh(weights.read(name, (1,)))
