"""The MiniCPM decoder: embeddings in, next-token logits out; the KV cache is updated in place.

Llama's block (RMSNorm, rotary positions, grouped-query attention, SiLU gate) with the three scales
of muP: `scale_emb` on token embeddings, `scale_depth / sqrt(layers)` on every residual branch,
`dim_model_base / hidden_size` before the head (Hu et al. 2024, https://arxiv.org/abs/2404.06395).
"""

from __future__ import annotations

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from handglass.schedules.rule import PATTERN

from ..ops import cache as cache_op
from ..ops import exponential, norm, rotary
from ..ops.embedding import lookup
from ..ops.layout import Layout, key_shape, scale_shape
from ..schemes.kv_cache import CacheType
from ..schemes.scheme import Scheme
from .config import LanguageConfig
from .layers import Linear, RMSNorm, Source, multiply, opaque
from .leaves import Rows, Stored
from .weights import Panels

Cache = list[nn.Tensor]
"""For each layer: keys, values and, if these are integers, the scales of both."""


class Decoder(nn.Module):
    """The language model; `head` is the name of the checkpoint tensor of the LM head."""

    def __init__(
        self, config: LanguageConfig, scheme: Scheme, context: int, head: str, prefix: str = "llm."
    ) -> None:
        super().__init__()
        self.config = config
        shape = (config.vocab_size, config.hidden_size)
        embedding = f"{prefix}model.embed_tokens.weight"
        self.embed_tokens = Panels(scheme, [Rows(embedding, shape)])
        self.lm_head = None if head == embedding else Panels(scheme, [Rows(head, shape)])
        self.rotations = Stored(
            (context, config.head_dim),
            lambda _: rotary.table(context, config.head_dim, config.rope_theta),
        )
        self.layers = nn.ModuleList(
            [
                DecoderLayer(config, scheme, f"{prefix}model.layers.{i}")
                for i in range(config.num_hidden_layers)
            ]
        )
        self.norm = RMSNorm(f"{prefix}model.norm", config.hidden_size, config.rms_norm_eps)

    def embed(self, ids: nn.Tensor) -> nn.Tensor:
        """ids (s,) -> (s, hidden_size), scaled by `scale_emb`."""
        table, width = self.embed_tokens, self.config.hidden_size
        tensors = [tensor for piece in table.pieces for tensor in piece.tensors]
        return opaque(
            lambda ids, *parts: lookup(ids, table.reader(parts), width, self.config.scale_emb),
            "embed",
            ids,
            *tensors,
        )

    def forward(self, x: nn.Tensor, pos: tirx.Var, cache: Cache) -> nn.Tensor:
        """x (s, hidden_size) at positions pos..pos + s - 1 -> logits (vocab_size,) of the last."""
        count = len(cache) // len(self.layers)
        for i, layer in enumerate(self.layers):
            x = layer(x, pos, self.rotations.value, cache[i * count : (i + 1) * count])
        logits = multiply(self._last(x), self.lm_head or self.embed_tokens)
        return op.reshape(logits, (self.config.vocab_size,))

    def _last(self, x: nn.Tensor) -> Source:
        """The last row, normalized and scaled: the input of the head. (1, hidden_size)"""
        scale = float(np.float32(self.config.logit_scale))

        def compute(x: te.Tensor, weight: te.Tensor) -> te.Tensor:
            normed = norm.rms_norm(_last_row(x), weight, self.norm.eps)
            if scale == 1.0:
                return normed
            factor = tirx.const(scale, "float32")
            return te.compute(normed.shape, lambda i, j: normed[i, j] * factor, name="last")

        return Source("last", compute, (x, self.norm.weight.value), last=True)


class DecoderLayer(nn.Module):
    """x (s, d) -> (s, d); appends its keys and values to the cache."""

    def __init__(self, config: LanguageConfig, scheme: Scheme, prefix: str) -> None:
        super().__init__()
        d, f = config.hidden_size, config.intermediate_size
        self.residual_scale = config.residual_scale
        self.input_layernorm = RMSNorm(f"{prefix}.input_layernorm", d, config.rms_norm_eps)
        self.self_attn = Attention(config, scheme, f"{prefix}.self_attn")
        self.post_attention_layernorm = RMSNorm(
            f"{prefix}.post_attention_layernorm", d, config.rms_norm_eps
        )
        self.gate_up_proj = Linear(
            scheme,
            [
                Rows(f"{prefix}.mlp.gate_proj.weight", (f, d)),
                Rows(f"{prefix}.mlp.up_proj.weight", (f, d)),
            ],
        )
        self.down_proj = Linear(scheme, [Rows(f"{prefix}.mlp.down_proj.weight", (d, f))])

    def forward(self, x, pos: tirx.Var, rotations, cache: Cache) -> nn.Tensor:
        attended = self.self_attn(self.input_layernorm(x), pos, rotations, cache)
        x = self._add(x, attended)
        gate_up = self.gate_up_proj(self.post_attention_layernorm(x))  # (s, 2 f)
        hidden = Source("silu_gate", exponential.silu_gate, (gate_up,))  # (s, f)
        return self._add(x, self.down_proj(hidden))

    def _add(self, x: nn.Tensor, branch: nn.Tensor) -> nn.Tensor:
        if self.residual_scale == 1.0:
            return op.add(x, branch)
        return op.add(x, op.multiply(branch, _scalar(self.residual_scale)))


class Attention(nn.Module):
    """x (s, d) -> (s, d); each row attends to all cached positions up to its own."""

    def __init__(self, config: LanguageConfig, scheme: Scheme, prefix: str) -> None:
        super().__init__()
        self.layout = Layout(
            config.num_attention_heads, config.num_key_value_heads, config.head_dim
        )
        h, h_kv, e = self.layout.heads, self.layout.kv_heads, self.layout.head_dim
        d = config.hidden_size
        self.qkv_proj = Linear(
            scheme,
            [
                Rows(f"{prefix}.q_proj.weight", (h * e, d)),
                Rows(f"{prefix}.k_proj.weight", (h_kv * e, d)),
                Rows(f"{prefix}.v_proj.weight", (h_kv * e, d)),
            ],
        )
        self.o_proj = Linear(scheme, [Rows(f"{prefix}.o_proj.weight", (d, h * e))])

    def forward(self, x, pos: tirx.Var, rotations, cache: Cache) -> nn.Tensor:
        qkv = self.qkv_proj(x)  # (s, (h + 2 h_kv) * head_dim)
        cache = cache_op.append(cache, qkv, rotations, pos, self.layout)
        mixed = opaque(
            lambda qkv, rotations, pos, *cache: rotary.causal_attention(
                qkv, rotations, cache, pos, self.layout
            ),
            "causal_attention",
            qkv,
            rotations,
            pos,
            *cache,
        )
        return self.o_proj(mixed)


def cache_tensors(
    config: LanguageConfig, context: int, kind: CacheType
) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and dtype of the cache tensors, in the order of `Cache`."""
    h_kv, e = config.num_key_value_heads, config.head_dim
    scale = (scale_shape(h_kv, context), "float32")
    layer = {
        "k_cache": (key_shape(h_kv, context, e), kind.dtype),
        "v_cache": ((h_kv, context, e), kind.dtype),
    } | ({"k_scale": scale, "v_scale": scale} if kind.scaled else {})
    return [
        (f"layers.{i}.{name}", shape, dtype)
        for i in range(config.num_hidden_layers)
        for name, (shape, dtype) in layer.items()
    ]


def _scalar(value: float) -> nn.Tensor:
    return nn.Tensor.from_scalar(float(np.float32(value)), "float32")


def _last_row(x: te.Tensor) -> te.Tensor:
    return te.compute(
        (1, x.shape[1]),
        lambda i, j: x[x.shape[0] - 1, j],
        name="last_row",
        attrs={PATTERN: "view"},
    )
