"""Layers of the decoder that attend to pictures instead of the text (Llama 3.2 Vision).

Keys and values of the pictures in view are computed once, by `show`, and stay in the state until
other pictures come into view. Both branches of a layer have a gate.
"""

from __future__ import annotations

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from handglass.schedules.isa.register_tiles import LANES

from ..checkpoints.checkpoint import Checkpoint
from ..ops import cache as cache_op
from ..ops import norm
from ..ops.attention import attention, heads_of
from ..ops.layout import Layout
from ..schemes.scheme import Scheme, has_tile_attention
from .config import LanguageConfig
from .layers import Linear, RMSNorm, opaque
from .leaves import Rows, Stored
from .mlp import Mlp


class CrossLayer(nn.Module):
    """x (s, d) -> (s, d): attention to the pictures in view, then the MLP; both gated."""

    def __init__(self, config: LanguageConfig, scheme: Scheme, prefix: str) -> None:
        super().__init__()
        d, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(f"{prefix}.input_layernorm", d, eps)
        self.cross_attn = CrossAttention(config, scheme, f"{prefix}.cross_attn")
        self.attn_gate = gate(f"{prefix}.cross_attn_attn_gate")
        self.post_attention_layernorm = RMSNorm(f"{prefix}.post_attention_layernorm", d, eps)
        self.mlp = Mlp(scheme, f"{prefix}.mlp", d, config.intermediate_size)
        self.mlp_gate = gate(f"{prefix}.cross_attn_mlp_gate")

    def forward(self, x: nn.Tensor, seen: tirx.Var, state: list[nn.Tensor]) -> nn.Tensor:
        mixed = self.cross_attn(self.input_layernorm(x), seen, state)
        x = gated_sum(x, mixed, self.attn_gate)
        return gated_sum(x, self.mlp(self.post_attention_layernorm(x)), self.mlp_gate)


class CrossAttention(nn.Module):
    """Grouped-query attention of text to the first `seen` rows of pictures; heads are normalized,
    and nothing is rotated."""

    def __init__(self, config: LanguageConfig, scheme: Scheme, prefix: str) -> None:
        super().__init__()
        d, e, self.eps = config.hidden_size, config.head_dim, config.rms_norm_eps
        self.heads, self.layout = config.num_attention_heads, picture_layout(config)
        rows = lambda name, heads: Rows(f"{prefix}.{name}.weight", (heads * e, d))  # noqa: E731
        h_kv = self.layout.kv_heads
        self.q_proj = Linear(scheme, [rows("q_proj", self.heads)])
        self.kv_proj = Linear(scheme, [rows("k_proj", h_kv), rows("v_proj", h_kv)])
        self.o_proj = Linear(scheme, [Rows(f"{prefix}.o_proj.weight", (d, self.heads * e))])
        self.q_norm = _head_weight(f"{prefix}.q_norm.weight", e, self.heads)
        self.k_norm = _head_weight(f"{prefix}.k_norm.weight", e, h_kv)
        self.tiles = has_tile_attention(scheme)

    def forward(self, x, seen: tirx.Var, state: list[nn.Tensor]) -> nn.Tensor:
        q = self._normed(self.q_proj(x), self.q_norm, self.heads)
        mixed = opaque(self._attend, "cross_attention", q, seen, *state)
        return self.o_proj(mixed)

    def show(
        self, rows: nn.Tensor, first: tirx.Var, still: nn.Tensor, state: list[nn.Tensor]
    ) -> list[nn.Tensor]:
        """Keep keys and values of the rows (m, d) of pictures from place `first` on; `still` are
        rotations by 0. Returns the state."""
        kv = self._normed(self.kv_proj(rows), self.k_norm, 2 * self.layout.kv_heads)
        return cache_op.append(state, kv, still, first, self.layout)

    def _attend(self, q: te.Tensor, seen: tirx.Var, *state: te.Tensor) -> te.Tensor:
        keys, values, *scales = state
        e = self.layout.head_dim
        queries = heads_of(q, self.heads, e)
        return attention(queries, keys, values, e**-0.5, lambda i: seen, tuple(scales), self.tiles)

    def _normed(self, x: nn.Tensor, weight: Stored, heads: int) -> nn.Tensor:
        """x (m, heads * e) with those heads normalized that the weight covers."""
        e = self.layout.head_dim
        return opaque(
            lambda x, weight: norm.head_norm(x, weight, e, heads * e, self.eps),
            "head_norm",
            x,
            weight.value,
        )


def picture_layout(config: LanguageConfig) -> Layout:
    """Rows of keys and values, without queries."""
    return Layout(0, config.num_key_value_heads, config.head_dim)


def picture_places(config: LanguageConfig) -> int:
    """Rows of pictures that a state has room for."""
    return -(-config.picture_rows // LANES) * LANES


def still_rotations(config: LanguageConfig) -> Stored:
    """Rotations by 0 of all places: pictures have no rotary positions."""
    places, half = picture_places(config), config.head_dim // 2

    def table(_: Checkpoint) -> np.ndarray:
        ones = np.ones((places, half), np.float32)
        return np.concatenate([ones, np.zeros_like(ones)], axis=1)

    return Stored((places, config.head_dim), table)


def gate(name: str) -> Stored:
    """The factor of a branch: the hyperbolic tangent of the stored number."""
    source = Rows(name, (1,))
    return Stored((1,), lambda ckpt: np.tanh(source.read(ckpt)), [source])


def gated_sum(x: nn.Tensor, branch: nn.Tensor, factor: Stored) -> nn.Tensor:
    return op.add(x, op.multiply(branch, factor.value))


def _head_weight(name: str, e: int, heads: int) -> Stored:
    """The weight of the norm of a head, for all heads."""
    source = Rows(name, (e,))
    return Stored((heads * e,), lambda ckpt: np.tile(source.read(ckpt), heads), [source])
