"""The decoder: embeddings in, next-token logits out; the state is updated in place.

Llama's block (RMSNorm, rotary positions, grouped-query attention, SiLU gate), or a block with
linear attention (delta_net.py). MiniCPM adds the three scales of muP: `scale_emb` on token
embeddings, `scale_depth / sqrt(layers)` on every residual branch, `dim_model_base / hidden_size`
before the head (Hu et al. 2024, https://arxiv.org/abs/2404.06395).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from handglass.runtime.bundle.entries import PICTURES, POSITIONS, RECURRENT, StateTensor
from handglass.schedules.rule import PATTERN

from ..ops import norm, rotary
from ..ops import rotations as rotations_op
from ..ops.embedding import lookup
from ..schemes.kv_cache import CacheType
from .config import LanguageConfig
from .cross_attention import CrossLayer, picture_places, still_rotations
from .delta_net import DeltaNet, state_shapes
from .layers import RMSNorm, Source, multiply, opaque
from .leaves import Rows, Stored
from .mixture import Schemes, mlp_of
from .self_attention import Attention, cache_shapes
from .storage import Storage
from .weights import Panels

ROTATIONS = "rotations"
State = list[nn.Tensor]
"""For each layer: keys, values and, if these are integers, the scales of both; or the state of its
linear attention. Last, the rotations, if the model has `rope_sections`."""


class Decoder(nn.Module):
    """The language model; `head` is the name of the checkpoint tensor of the LM head."""

    def __init__(
        self,
        config: LanguageConfig,
        storage: Storage,
        head: str,
        prefix: str = "llm.model",
    ) -> None:
        super().__init__()
        self.config, scheme, context = config, storage.language, storage.context
        shape = (config.vocab_size + config.extra_tokens, config.hidden_size)
        embedding = f"{prefix}.embed_tokens.weight"
        self.counts = [len(state) for state in state_tensors(config, context, storage.cache)]
        is_tied = head == embedding
        self.embed_tokens = Panels(storage.head if is_tied else scheme, [Rows(embedding, shape)])
        rows = Rows(head, (config.vocab_size, config.hidden_size))
        self.lm_head = None if is_tied else Panels(storage.head, [rows])
        self.rotations = Stored(
            (context, config.head_dim),
            lambda _: rotary.table(
                context,
                config.head_dim,
                config.rope_theta,
                config.rotary_dim,
                config.rope_divisors,
                config.rope_magnitude,
            ),
        )
        schemes = Schemes(scheme, storage.gates, storage.experts)
        self.layers = nn.ModuleList(
            [
                _layer(config, schemes, f"{prefix}.layers.{i}", i)
                for i in range(config.num_hidden_layers)
            ]
        )
        self.still = still_rotations(config) if config.cross_layers else None
        self.norm = RMSNorm(
            f"{prefix}.norm", config.hidden_size, config.rms_norm_eps, config.are_norms_centred
        )

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

    def forward(
        self,
        x: nn.Tensor,
        pos: tirx.Var,
        state: State,
        positions: nn.Tensor | None = None,
        seen: tirx.Var | None = None,
    ) -> nn.Tensor:
        """x (s, hidden_size) at places pos..pos + s - 1 -> logits (vocab_size,) of the last.

        `positions` (s, 3): of a model with `rope_sections`, whose last state tensor is for them.
        `seen`: rows of pictures that the rows of x see; None: none, layers for them are skipped.
        """
        rotations = self.rotations.value
        if positions is not None:
            sections = self.config.rope_sections
            rotations = rotations_op.place(state[-1], rotations, positions, pos, sections)
        for layer, part in self._layers_with(state):
            if not isinstance(layer, CrossLayer):
                x = layer(x, pos, rotations, part)
            elif seen is not None:
                x = layer(x, seen, part)
        logits = multiply(self._last(x), self.lm_head or self.embed_tokens)
        if self.lm_head is None and self.config.extra_tokens:
            logits = opaque(lambda x: _first(x, self.config.vocab_size), "logits", logits)
        return op.reshape(logits, (self.config.vocab_size,))

    def show(self, rows: nn.Tensor, first: tirx.Var, state: State) -> State:
        """Keep the keys and values of rows (m, hidden_size) of pictures at places first..first + m.

        Returns the tensors of the state that hold them.
        """
        assert self.still is not None
        kept: State = []
        for layer, part in self._layers_with(state):
            if isinstance(layer, CrossLayer):
                kept += layer.cross_attn.show(rows, first, self.still.value, part)
        return kept

    def _layers_with(self, state: State) -> Iterator[tuple[nn.Module, State]]:
        """Each layer and its part of the state."""
        first = 0
        for layer, count in zip(self.layers, self.counts, strict=True):
            yield layer, state[first : first + count]
            first += count

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


def _layer(config: LanguageConfig, schemes: Schemes, prefix: str, number: int) -> nn.Module:
    if number in config.cross_layers:
        return CrossLayer(config, schemes.weights, prefix)
    return DecoderLayer(config, schemes, prefix, number in config.linear_layers)


class DecoderLayer(nn.Module):
    """x (s, d) -> (s, d); updates the state of its attention."""

    def __init__(
        self, config: LanguageConfig, schemes: Schemes, prefix: str, is_linear: bool
    ) -> None:
        super().__init__()
        d = config.hidden_size
        scheme = schemes.weights
        self.residual_scale = config.residual_scale
        norm = lambda name: RMSNorm(  # noqa: E731
            f"{prefix}.{name}", d, config.rms_norm_eps, config.are_norms_centred
        )
        self.input_layernorm = norm("input_layernorm")
        self.self_attn = None if is_linear else Attention(config, scheme, f"{prefix}.self_attn")
        self.linear_attn = (
            DeltaNet(config, scheme, schemes.gates, f"{prefix}.linear_attn") if is_linear else None
        )
        self.post_attention_layernorm = norm("post_attention_layernorm")
        self.mlp = mlp_of(config, schemes, f"{prefix}.mlp")

    def forward(self, x, pos: tirx.Var, rotations, state: State) -> nn.Tensor:
        x = self._add(x, self._attend(self.input_layernorm(x), pos, rotations, state))
        return self._add(x, self.mlp(self.post_attention_layernorm(x)))

    def _attend(self, x: Source, pos: tirx.Var, rotations, state: State) -> nn.Tensor:
        if self.linear_attn is not None:
            return self.linear_attn(x, state)
        assert self.self_attn is not None
        return self.self_attn(x, pos, rotations, state)

    def _add(self, x: nn.Tensor, branch: nn.Tensor) -> nn.Tensor:
        if self.residual_scale == 1.0:
            return op.add(x, branch)
        return op.add(x, op.multiply(branch, _scalar(self.residual_scale)))


def state_tensors(config: LanguageConfig, context: int, kind: CacheType) -> list[list[StateTensor]]:
    """The state tensors of each layer, in the order in which its attention takes them."""
    return [_state_of(config, number, context, kind) for number in range(config.num_hidden_layers)]


def placed_rotations(config: LanguageConfig, context: int) -> list[StateTensor]:
    """The last state tensor of a model with `rope_sections`: the rotations of each place."""
    shape = (context, config.head_dim)
    return [StateTensor(ROTATIONS, shape, "float32", POSITIONS)] if config.rope_sections else []


def _state_of(
    config: LanguageConfig, number: int, context: int, kind: CacheType
) -> list[StateTensor]:
    if number in config.linear_layers:
        assert config.delta is not None
        shapes, rewinds = state_shapes(config.delta), RECURRENT
    elif number in config.cross_layers:
        shapes, rewinds = cache_shapes(config, picture_places(config), kind), PICTURES
    else:
        shapes, rewinds = cache_shapes(config, context, kind), POSITIONS
    return [
        StateTensor(f"layers.{number}.{name}", shape, dtype, rewinds)
        for name, (shape, dtype) in shapes.items()
    ]


def _scalar(value: float) -> nn.Tensor:
    return nn.Tensor.from_scalar(float(np.float32(value)), "float32")


def _first(x: te.Tensor, columns: int) -> te.Tensor:
    return te.compute((x.shape[0], columns), lambda i, j: x[i, j], name="logits")


def _last_row(x: te.Tensor) -> te.Tensor:
    return te.compute(
        (1, x.shape[1]),
        lambda i, j: x[x.shape[0] - 1, j],
        name="last_row",
        attrs={PATTERN: "view"},
    )
