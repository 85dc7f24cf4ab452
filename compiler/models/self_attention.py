"""Causal self-attention of the decoder: grouped-query, with rotary positions and a KV cache.

Options: biases of q, k and v (Qwen2), RMSNorm of the heads (Qwen3), a gate of the result and
rotation of a part of each head (Qwen3.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend import nn

from ..checkpoints.checkpoint import Checkpoint
from ..ops import cache as cache_op
from ..ops import norm, rotary
from ..ops.exponential import sigmoid
from ..ops.layout import Layout, key_shape, scale_shape
from ..schemes.kv_cache import CacheType
from ..schemes.scheme import Scheme, has_tile_attention
from .config import LanguageConfig
from .layers import Linear, Source, opaque
from .leaves import Rows, Stored

Spans = Sequence[tuple[int, int]]


class Attention(nn.Module):
    """x (s, d) -> (s, d); each row attends to all cached positions up to its own."""

    def __init__(self, config: LanguageConfig, scheme: Scheme, prefix: str) -> None:
        super().__init__()
        self.config, self.prefix = config, prefix
        self.layout = Layout(
            config.num_attention_heads, config.num_key_value_heads, config.head_dim
        )
        bias = list(self._qkv("bias", ())) if config.qkv_bias else []
        self.qkv_proj = Linear(scheme, list(self._qkv("weight", (config.hidden_size,))), bias)
        self.qk_norm = self._head_weights() if config.qk_norm else None
        heads_width = self.layout.heads * self.layout.head_dim
        o_proj = Rows(f"{prefix}.o_proj.weight", (config.hidden_size, heads_width))
        self.o_proj = Linear(scheme, [o_proj])
        self.tiles = has_tile_attention(scheme)

    def forward(
        self, x: nn.Tensor | Source, pos: tirx.Var, rotations: nn.Tensor, cache: list[nn.Tensor]
    ) -> nn.Tensor:
        projected = self.qkv_proj(x)  # (s, (h + 2 h_kv) * head_dim), then the gate if there is one
        qkv = self._normed(projected)
        cache = cache_op.append(cache, qkv, rotations, pos, self.layout)
        mixed = opaque(
            lambda qkv, rotations, pos, *cache: rotary.causal_attention(
                qkv, rotations, cache, pos, self.layout, self.tiles
            ),
            "causal_attention",
            qkv,
            rotations,
            pos,
            *cache,
        )
        return self.o_proj(self._gated(mixed, projected))

    def _normed(self, projected: nn.Tensor) -> nn.Tensor:
        if self.qk_norm is None:
            return projected
        e, width, eps = self.layout.head_dim, self.layout.width, self.config.rms_norm_eps
        return opaque(
            lambda qkv, weight: norm.head_norm(qkv, weight, e, width, eps),
            "head_norm",
            projected,
            self.qk_norm.value,
        )

    def _gated(self, mixed: nn.Tensor, projected: nn.Tensor) -> nn.Tensor | Source:
        if not self.config.has_output_gate:
            return mixed
        first = self.layout.width

        def compute(mixed: te.Tensor, projected: te.Tensor) -> te.Tensor:
            gated = lambda i, j: mixed[i, j] * sigmoid(projected[i, first + j])  # noqa: E731
            return te.compute(mixed.shape, gated, name="gated")

        return Source("gated", compute, (mixed, projected))

    def _qkv(self, kind: str, columns: tuple[int, ...]) -> Iterator[Rows]:
        """The rows of q, k and v, heads in the order of `_head_spans`; then those of the gate."""
        config, e = self.config, self.layout.head_dim
        h, h_kv = self.layout.heads, self.layout.kv_heads
        part = 2 if config.has_output_gate else 1  # q_proj: query and gate of a head in turn
        q = (f"{self.prefix}.q_proj.{kind}", (h * part * e, *columns))
        k = (f"{self.prefix}.k_proj.{kind}", (h_kv * e, *columns))
        yield from _slices(*q, [(n * part * e, e) for n in range(h)], self._head_spans())
        yield from _slices(*k, [(n * e, e) for n in range(h_kv)], self._head_spans())
        yield Rows(f"{self.prefix}.v_proj.{kind}", (h_kv * e, *columns))
        if part == 2:
            yield from _slices(*q, [(n * 2 * e + e, e) for n in range(h)], [(0, e)])

    def _head_spans(self) -> Spans:
        """Parts of a head in the order in which they are computed.

        Kernels rotate element j with element j + head_dim / 2. If only the first r elements are
        rotated, element j belongs to element j + r / 2, so the parts are put in another order.
        """
        e = self.layout.head_dim
        r = self.config.rotary_dim or e
        middle = (e + r) // 2
        if r == e:
            return [(0, e)]
        return [(0, r // 2), (r, middle), (r // 2, r), (middle, e)]

    def _head_weights(self) -> Stored:
        """The weights of the norms of all query heads, then all key heads."""
        e, one = self.layout.head_dim, np.float32(self.config.are_norms_centred)
        q, k = (Rows(f"{self.prefix}.{name}_norm.weight", (e,)) for name in "qk")
        order = list(chain.from_iterable(range(*span) for span in self._head_spans()))

        def read(checkpoint: Checkpoint) -> np.ndarray:
            q_weight, k_weight = ((part.read(checkpoint) + one)[order] for part in (q, k))
            heads = (np.tile(q_weight, self.layout.heads), np.tile(k_weight, self.layout.kv_heads))
            return np.concatenate(heads)

        return Stored(((self.layout.heads + self.layout.kv_heads) * e,), read, [q, k])


def _slices(
    name: str, shape: tuple[int, ...], heads: Sequence[tuple[int, int]], spans: Spans
) -> Iterator[Rows]:
    """The spans of each head (first row, rows) of a tensor; one slice if that is all of it."""
    if sum(count for _, count in heads) == shape[0] and len(spans) == 1:
        yield Rows(name, shape)
        return
    for first, _ in heads:
        for start, stop in spans:
            yield Rows(name, shape, first + start, first + stop)


def cache_shapes(
    config: LanguageConfig, context: int, kind: CacheType
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of the cache tensors of one layer, in their order."""
    h_kv, e = config.num_key_value_heads, config.head_dim
    scale = (scale_shape(h_kv, context), "float32")
    return {
        "k_cache": (key_shape(h_kv, context, e), kind.dtype),
        "v_cache": ((h_kv, context, e), kind.dtype),
    } | ({"k_scale": scale, "v_scale": scale} if kind.scaled else {})
