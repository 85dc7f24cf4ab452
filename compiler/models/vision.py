"""The SigLIP vision tower: image patches in, one feature row per patch out.

Pre-LN encoder (Zhai et al. 2023, https://arxiv.org/abs/2303.15343): patch convolution as a matmul,
a learned position table, all encoder layers, final LayerNorm. Names are those of the checkpoint
(`vpm.`).
"""

from __future__ import annotations

from functools import partial

from tvm import te
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from ..ops import attention as attention_op
from ..ops import exponential
from ..schemes.scheme import Scheme, has_tile_attention
from .config import VisionConfig
from .layers import LayerNorm, Linear, opaque
from .leaves import Rows
from .position_tables import LookedUp, Resized


class VisionTower(nn.Module):
    """pixels (3, p, p * n), position_ids (n,) -> (n, hidden_size)."""

    def __init__(self, config: VisionConfig, scheme: Scheme, prefix: str = "vpm") -> None:
        super().__init__()
        d, p, names = config.hidden_size, config.patch_size, config.names
        side = config.positions_per_side
        self.patch_size = p
        self.patch_embedding = Linear(
            scheme,
            [Rows(f"{prefix}.{names.patches}.weight", (d, 3, p, p))],
            [Rows(f"{prefix}.{names.patches}.bias", (d,))],
        )
        table = f"{prefix}.{names.positions}"
        self.position_embedding = (
            Resized(table, side, d, scheme)
            if config.resizes_positions
            else LookedUp(table, side, d)
        )
        self.layers = nn.ModuleList(
            [
                EncoderLayer(config, scheme, f"{prefix}.{names.layers}.{i}")
                for i in range(config.num_hidden_layers)
            ]
        )
        self.post_layernorm = LayerNorm(f"{prefix}.{names.final_norm}", d, config.layer_norm_eps)

    def forward(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        x = self.embed(pixels, position_ids)
        for layer in self.layers:
            x = layer(x)
        return self.post_layernorm(x).computed()

    def embed(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        """The input of the first layer: patches and their positions, (n, d)."""
        patches = opaque(
            lambda pixels, ids: _patches(pixels, ids.shape[0], self.patch_size),
            "patches",
            pixels,
            position_ids,
        )
        return op.add(self.patch_embedding(patches), self.position_embedding(position_ids))


GELU = {"gelu_pytorch_tanh": exponential.gelu_tanh, "gelu": exponential.gelu}


class EncoderLayer(nn.Module):
    """x + attention(LN(x)), then x + mlp(LN(x)); x (n, d)."""

    def __init__(self, config: VisionConfig, scheme: Scheme, prefix: str) -> None:
        super().__init__()
        d, f, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        names = config.names
        first, second = (f"{prefix}.{norm}" for norm in names.norms)
        self.layer_norm1 = LayerNorm(first, d, eps)
        self.qkv_proj = linear(scheme, prefix, (3 * d // len(names.qkv), d), *names.qkv)
        self.out_proj = linear(scheme, prefix, (d, d), names.out)
        self.layer_norm2 = LayerNorm(second, d, eps)
        self.fc1 = linear(scheme, prefix, (f, d), "mlp.fc1")
        self.fc2 = linear(scheme, prefix, (d, f), "mlp.fc2")
        self.tiles = has_tile_attention(scheme)
        self.heads, self.gelu = config.num_attention_heads, GELU[config.hidden_act]

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        qkv = self.qkv_proj(self.layer_norm1(x))  # (n, 3 d)
        attend = partial(_self_attention, heads=self.heads, tiles=self.tiles)
        mixed = opaque(attend, "vision_attention", qkv)
        x = op.add(x, self.out_proj(mixed))
        hidden = self.fc1(self.layer_norm2(x))  # (n, f)
        hidden = op.tensor_expr_op(self.gelu, self.gelu.__name__, [hidden])
        return op.add(x, self.fc2(hidden))


def linear(scheme: Scheme, prefix: str, shape: tuple[int, int], *names: str) -> Linear:
    """A linear layer with bias; several stored ones of the same shape (out, in) are stacked."""
    return Linear(
        scheme,
        [Rows(f"{prefix}.{name}.weight", shape) for name in names],
        [Rows(f"{prefix}.{name}.bias", shape[:1]) for name in names],
    )


def _patches(pixels: te.Tensor, n, p: int) -> te.Tensor:
    """(3, p, p * n) -> (n, 3 * p * p), ordered (channel, row, column) as the convolution is."""
    return te.compute(
        (n, 3 * p * p),
        lambda i, k: pixels[k // (p * p), k // p % p, i * p + k % p],
        name="patches",
    )


def _self_attention(qkv: te.Tensor, heads: int, tiles: bool) -> te.Tensor:
    """qkv (n, 3 d) -> (n, d); every patch attends to every patch."""
    d = int(qkv.shape[1]) // 3
    head_dim = d // heads
    q, k, v = (attention_op.heads_of(qkv, heads, head_dim, part * d) for part in range(3))
    return attention_op.attention_over_all(q, k, v, head_dim**-0.5, tiles)
