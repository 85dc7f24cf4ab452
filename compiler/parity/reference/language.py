"""The MiniCPM decoder over a whole sequence, without a KV cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...checkpoints.checkpoint import EMBEDDING
from ...models.config import LanguageConfig
from .arithmetic import Weights, attention, linear, rms_norm, split_heads

HEAD_ROWS = 8192  # rows of the head in memory at a time


def embed(weights: Weights, config: LanguageConfig, ids: Sequence[int]) -> np.ndarray:
    """Scaled token embeddings; only the rows of `ids` are read. (s, D)"""
    weights.expect(EMBEDDING, (config.vocab_size, config.hidden_size))
    rows = {i: weights.read_rows(EMBEDDING, i, i + 1) for i in set(ids)}
    return np.concatenate([rows[i] for i in ids]) * np.float32(config.scale_emb)


def logits(
    weights: Weights,
    config: LanguageConfig,
    x: np.ndarray,
    last: int,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> np.ndarray:
    """Logits after each of the `last` positions of x (s, D). (last, V)"""
    for number in range(config.num_hidden_layers):
        progress(number, config.num_hidden_layers)
        x = _layer(weights, config, f"llm.model.layers.{number}", x)
    x = rms_norm(weights, "llm.model.norm", x[-last:], config.rms_norm_eps)
    if config.dim_model_base is not None:
        x = x / np.float32(config.hidden_size / config.dim_model_base)
    return _head(weights, config, x)


def _layer(weights: Weights, config: LanguageConfig, name: str, x: np.ndarray) -> np.ndarray:
    depth = config.scale_depth
    residual = np.float32(1.0 if depth is None else depth / config.num_hidden_layers**0.5)
    y = rms_norm(weights, f"{name}.input_layernorm", x, config.rms_norm_eps)
    x = x + residual * _attention(weights, config, f"{name}.self_attn", y)
    y = rms_norm(weights, f"{name}.post_attention_layernorm", x, config.rms_norm_eps)
    return x + residual * _mlp(weights, config, f"{name}.mlp", y)


def _attention(weights: Weights, config: LanguageConfig, name: str, x: np.ndarray) -> np.ndarray:
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
    heads["v"] = heads["k"]
    q, k, v = (
        split_heads(linear(weights, f"{name}.{part}_proj", x, n * config.head_dim, bias=False), n)
        for part, n in heads.items()
    )
    y = attention(_rotate(q, config.rope_theta), _rotate(k, config.rope_theta), v, causal=True)
    return linear(weights, f"{name}.o_proj", y, config.hidden_size, bias=False)


def _rotate(x: np.ndarray, theta: float) -> np.ndarray:
    """Rotary positions 0, 1, ... on (h, s, d); element j is paired with element j + d / 2."""
    half = x.shape[-1] // 2
    frequency = np.float32(theta) ** -(np.arange(half, dtype=np.float32) / half)
    angle = np.arange(x.shape[1], dtype=np.float32)[:, None] * frequency  # (s, d/2)
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _mlp(weights: Weights, config: LanguageConfig, name: str, x: np.ndarray) -> np.ndarray:
    gate = linear(weights, f"{name}.gate_proj", x, config.intermediate_size, bias=False)
    up = linear(weights, f"{name}.up_proj", x, config.intermediate_size, bias=False)
    with np.errstate(over="ignore"):  # exp(-gate) may reach infinity, and silu is 0 there
        y = gate / (1 + np.exp(-gate)) * up
    return linear(weights, f"{name}.down_proj", y, config.hidden_size, bias=False)


def _head(weights: Weights, config: LanguageConfig, x: np.ndarray) -> np.ndarray:
    name = weights.lm_head(config.tie_word_embeddings)
    weights.expect(name, (config.vocab_size, config.hidden_size))
    x = weights.rounded(name, x)
    starts = range(0, config.vocab_size, HEAD_ROWS)
    stops = (min(start + HEAD_ROWS, config.vocab_size) for start in starts)
    return np.concatenate(
        [x @ weights.read_rows(name, a, b).T for a, b in zip(starts, stops, strict=True)], axis=1
    )
