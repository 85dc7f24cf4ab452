"""The vision tower of SigLIP and CLIP: image patches in, one feature row per patch out.

Pre-LN encoder (Zhai et al. 2023, https://arxiv.org/abs/2303.15343; Radford et al. 2021,
https://arxiv.org/abs/2103.00020): patch convolution as a matmul, a learned position table, all
encoder layers, final LayerNorm. Names are those of the checkpoint (`vpm.`). A tower with a class
token has one row more, the first: the caller puts a patch of zeros there.
"""

from __future__ import annotations

from typing import Protocol

from tvm import te
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from ..ops import attention as attention_op
from ..ops import exponential
from ..schemes.scheme import Scheme, attention_to_all
from .config import VisionConfig
from .layers import LayerNorm, Linear, Source, opaque, silu_gated
from .leaves import Rows, vector
from .position_tables import LookedUp, Resized, WithClass
from .token_rows import AfterTokens
from .tower_names import TowerNames


class VisionTower(nn.Module):
    """pixels (3, p, p * n), position_ids (n,) -> (n, hidden_size)."""

    def __init__(self, config: VisionConfig, scheme: Scheme, prefix: str = "vpm") -> None:
        super().__init__()
        d, p, names = config.hidden_size, config.patch_size, config.names
        self.patch_size = p
        has_bias = names.has_patch_bias and config.tokens is None  # else in the position table
        self.patch_embedding = Linear(
            scheme,
            [Rows(below(prefix, f"{names.patches}.weight"), (d, 3, p, p))],
            [Rows(below(prefix, f"{names.patches}.bias"), (d,))] if has_bias else [],
        )
        self.position_embedding = _positions(config, scheme, prefix)
        self.pre_layernorm = (
            LayerNorm(below(prefix, names.first_norm), d, config.layer_norm_eps)
            if names.first_norm
            else None
        )
        self.layers = nn.ModuleList(
            [
                EncoderLayer(config, scheme, below(prefix, f"{names.layers}.{i}"))
                for i in range(config.num_hidden_layers)
            ]
        )
        final = below(prefix, names.final_norm)
        self.post_layernorm = LayerNorm(final, d, config.layer_norm_eps)

    def forward(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        return self.post_layernorm(self.encode(pixels, position_ids)).computed()

    def encode(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        """The output of the last layer, (n, d)."""
        x = self.embed(pixels, position_ids)
        for layer in self.layers:
            x = layer(x)
        return x

    def embed(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        """The input of the first layer: patches and their positions, (n, d)."""
        patches = opaque(
            lambda pixels, ids: patches_of(pixels, ids.shape[0], self.patch_size),
            "patches",
            pixels,
            position_ids,
        )
        x = op.add(self.patch_embedding(patches), self.position_embedding(position_ids))
        return x if self.pre_layernorm is None else self.pre_layernorm(x).computed()


def _positions(config: VisionConfig, scheme: Scheme, prefix: str) -> nn.Module:
    """The position table of a tower, (position_ids (n,)) -> (n, d)."""
    d, side, names = config.hidden_size, config.positions_per_side, config.names
    table = below(prefix, names.positions)
    if config.tokens is not None:
        return AfterTokens(config, prefix)
    if config.resizes_positions:
        return Resized(table, side, d, scheme)
    if names.class_token:
        return WithClass(table, f"{prefix}.{names.class_token}", side, d)
    return LookedUp(table, side, d)


GELU = {
    "gelu_pytorch_tanh": exponential.gelu_tanh,
    "gelu": exponential.gelu,
    "quick_gelu": exponential.quick_gelu,
}
"""`hidden_act` -> the activation."""


class LayerConfig(Protocol):
    """The sizes of the layers of an encoder."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def layer_norm_eps(self) -> float: ...
    @property
    def hidden_act(self) -> str: ...
    @property
    def names(self) -> TowerNames: ...


class EncoderLayer(nn.Module):
    """x + attention(LN(x)), then x + mlp(LN(x)); x (n, d).

    `is_causal`: each row attends to the rows up to its own.
    """

    def __init__(
        self, config: LayerConfig, scheme: Scheme, prefix: str, is_causal: bool = False
    ) -> None:
        super().__init__()
        d, f, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        names = config.names
        first, second = (f"{prefix}.{norm}" for norm in names.norms)
        self.layer_norm1 = LayerNorm(first, d, eps)
        self.qkv_proj = linear(scheme, prefix, (3 * d // len(names.qkv), d), *names.qkv)
        self.out_proj = linear(scheme, prefix, (d, d), names.out)
        self.layer_norm2 = LayerNorm(second, d, eps)
        self.is_gated = names.is_gated
        self.fc1 = linear(scheme, prefix, ((1 + names.is_gated) * f, d), names.mlp[0])
        self.fc2 = linear(scheme, prefix, (d, f), names.mlp[1])
        scales = [vector(Rows(f"{prefix}.{name}", (d,))) for name in names.scales]
        self.scales = nn.ModuleList(scales)
        self.tiles = attention_to_all(scheme)
        self.heads, self.gelu = config.num_attention_heads, GELU[config.hidden_act]
        self.is_causal = is_causal

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        qkv = self.qkv_proj(self.layer_norm1(x))  # (n, 3 d)
        mixed = opaque(self.attend, "vision_attention", qkv)
        x = op.add(x, self._scaled(self.out_proj(mixed), 0))
        return op.add(x, self._scaled(self.mlp(self.layer_norm2(x)), 1))

    def attend(self, qkv: te.Tensor) -> te.Tensor:
        """qkv (n, 3 d) -> (n, d)"""
        return _self_attention(qkv, self.heads, self.tiles, self.is_causal)

    def mlp(self, x: nn.Tensor | Source) -> nn.Tensor:
        """x (n, d) -> (n, d), through f hidden columns."""
        if self.is_gated:
            return self.fc2(silu_gated(x, self.fc1))
        hidden = self.fc1(x)
        return self.fc2(op.tensor_expr_op(self.gelu, self.gelu.__name__, [hidden]))

    def _scaled(self, x: nn.Tensor, part: int) -> nn.Tensor:
        return op.multiply(x, self.scales[part].value) if len(self.scales) else x


class PostNormLayer(EncoderLayer):
    """The layer of BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805):
    LN(x + attention(x)), then LN(x + mlp(x)); x (n, d)."""

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        mixed = opaque(self.attend, "vision_attention", self.qkv_proj(x))
        x = self.layer_norm1(op.add(x, self.out_proj(mixed))).computed()
        return self.layer_norm2(op.add(x, self.mlp(x))).computed()


def below(prefix: str, name: str) -> str:
    """The name of a tensor under a prefix, which may be empty."""
    return f"{prefix}.{name}" if prefix else name


def linear(scheme: Scheme, prefix: str, shape: tuple[int, int], *names: str) -> Linear:
    """A linear layer with bias; several stored ones of the same shape (out, in) are stacked."""
    return Linear(
        scheme,
        [Rows(below(prefix, f"{name}.weight"), shape) for name in names],
        [Rows(below(prefix, f"{name}.bias"), shape[:1]) for name in names],
    )


def patches_of(pixels: te.Tensor, n, p: int) -> te.Tensor:
    """(3, p, p * n) -> (n, 3 * p * p), ordered (channel, row, column) as the convolution is."""
    return te.compute(
        (n, 3 * p * p),
        lambda i, k: pixels[k // (p * p), k // p % p, i * p + k % p],
        name="patches",
    )


def _self_attention(qkv: te.Tensor, heads: int, tiles: str, is_causal: bool) -> te.Tensor:
    """qkv (n, 3 d) -> (n, d); every row attends to every row, or to those up to its own."""
    d = int(qkv.shape[1]) // 3
    head_dim = d // heads
    q, k, v = (attention_op.heads_of(qkv, heads, head_dim, part * d) for part in range(3))
    return attention_op.attention_over_all(q, k, v, head_dim**-0.5, tiles, is_causal)
