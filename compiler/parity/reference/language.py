"""The decoder over a whole sequence, without a state: nothing is kept between positions but what
the sequence itself holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...checkpoints.checkpoint import LM_HEAD
from ...models.config import LanguageConfig
from .arithmetic import Watch, Weights, linear, rms_norm, silu, unwatched
from .cross_attention import Shown, cross_attention, gate
from .delta_net import delta_net
from .experts import mixture
from .self_attention import self_attention

HEAD_ROWS = 8192  # rows of the head in memory at a time


@dataclass(frozen=True)
class Names:
    """Names of the checkpoint's tensors."""

    model: str = "llm.model"
    """The prefix of embedding, layers and last norm."""
    head: str = LM_HEAD

    @property
    def embedding(self) -> str:
        return f"{self.model}.embed_tokens.weight"


LLM = Names()


def embed(
    weights: Weights, config: LanguageConfig, ids: Sequence[int], names: Names = LLM
) -> np.ndarray:
    """Scaled token embeddings; only the rows of `ids` are read. (s, D)"""
    name = names.embedding
    weights.expect(name, (config.vocab_size + config.extra_tokens, config.hidden_size))
    rows = {i: weights.read_rows(name, i, i + 1) for i in set(ids)}
    return np.concatenate([rows[i] for i in ids]) * np.float32(config.scale_emb)


def logits(
    weights: Weights,
    config: LanguageConfig,
    x: np.ndarray,
    last: int,
    names: Names = LLM,
    progress: Callable[[int, int], object] = lambda done, total: None,
    positions: np.ndarray | None = None,
    watch: Watch = unwatched,
    shown: Shown | None = None,
) -> np.ndarray:
    """Logits after each of the `last` positions of x (s, D). (last, V)

    `positions` (s, 3): of a model with `rope_sections`. `shown`: what x sees.
    """
    for number in range(config.num_hidden_layers):
        progress(number, config.num_hidden_layers)
        watch(x)
        name = f"{names.model}.layers.{number}"
        if number in config.cross_layers:
            x = _seeing(weights, config, name, x, shown)
        else:
            x = _layer(weights, config, name, x, number, positions)
    watch(x)
    x = rms_norm(weights, f"{names.model}.norm", x[-last:], *_norm_options(config))
    if config.dim_model_base is not None:
        x = x / np.float32(config.hidden_size / config.dim_model_base)
    return _head(weights, config, x, names)


def _layer(
    weights: Weights,
    config: LanguageConfig,
    name: str,
    x: np.ndarray,
    number: int,
    positions: np.ndarray | None,
) -> np.ndarray:
    depth = config.scale_depth
    residual = np.float32(1.0 if depth is None else depth / config.num_hidden_layers**0.5)
    y = rms_norm(weights, f"{name}.input_layernorm", x, *_norm_options(config))
    if number in config.linear_layers:
        y = delta_net(weights, config, f"{name}.linear_attn", y)
    else:
        y = self_attention(weights, config, f"{name}.self_attn", y, positions)
    x = x + residual * y
    y = rms_norm(weights, f"{name}.post_attention_layernorm", x, *_norm_options(config))
    return x + residual * _mlp_of(weights, config, f"{name}.mlp", y)


def _seeing(
    weights: Weights, config: LanguageConfig, name: str, x: np.ndarray, shown: Shown | None
) -> np.ndarray:
    """The layer attends to a picture; rows of text before it pass unchanged."""
    if shown is None:
        return x
    before, x = x[: shown.place], x[shown.place :]
    y = rms_norm(weights, f"{name}.input_layernorm", x, *_norm_options(config))
    y = cross_attention(weights, config, f"{name}.cross_attn", y, shown.rows)
    x = x + gate(weights, f"{name}.cross_attn_attn_gate") * y
    y = rms_norm(weights, f"{name}.post_attention_layernorm", x, *_norm_options(config))
    y = _mlp(weights, config, f"{name}.mlp", y)
    return np.concatenate([before, x + gate(weights, f"{name}.cross_attn_mlp_gate") * y])


def _norm_options(config: LanguageConfig) -> tuple[float, bool]:
    return config.rms_norm_eps, config.are_norms_centred


def _mlp_of(weights: Weights, config: LanguageConfig, name: str, x: np.ndarray) -> np.ndarray:
    if config.experts is None:
        return _mlp(weights, config, name, x)
    shared = _mlp(weights, config, f"{name}.shared_expert", x)
    return mixture(weights, config.experts, name, x, shared)


def _mlp(weights: Weights, config: LanguageConfig, name: str, x: np.ndarray) -> np.ndarray:
    gate = linear(weights, f"{name}.gate_proj", x, config.intermediate_size, bias=False)
    up = linear(weights, f"{name}.up_proj", x, config.intermediate_size, bias=False)
    return linear(weights, f"{name}.down_proj", silu(gate) * up, config.hidden_size, bias=False)


def _head(weights: Weights, config: LanguageConfig, x: np.ndarray, names: Names) -> np.ndarray:
    name = weights.lm_head(config.tie_word_embeddings, names.head, names.embedding)
    extra = config.extra_tokens if name == names.embedding else 0
    weights.expect(name, (config.vocab_size + extra, config.hidden_size))
    x = weights.rounded(name, x, alone=True)
    starts = range(0, config.vocab_size, HEAD_ROWS)
    stops = (min(start + HEAD_ROWS, config.vocab_size) for start in starts)
    return np.concatenate(
        [x @ weights.read_rows(name, a, b).T for a, b in zip(starts, stops, strict=True)], axis=1
    )
