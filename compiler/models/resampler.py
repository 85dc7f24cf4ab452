"""The resampler: learned queries attend to the features of all patches; one output row per query.

Keys receive the 2D position of their patch, values do not. There is no residual. The queries do not
depend on the image, so they are normalized and projected once, at packing time.

The patches of several video frames can be resampled together (`has_times`). Their keys receive the
1D sine-cosine position of the time of their frame as well.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from ..checkpoints.checkpoint import Checkpoint
from ..ops import attention as attention_op
from ..schemes.scheme import Scheme, attention_to_all
from .config import ResamplerConfig
from .key_positions import ComputedPositions, EnlargedPositions, TimePositions
from .layers import LayerNorm, Linear, opaque
from .leaves import Rows, Stored

EPS = 1e-6


class Resampler(nn.Module):
    """features (n, vision_hidden_size), grid (n, 2), times (n,) -> (query_num, hidden_size)."""

    def __init__(self, config: ResamplerConfig, scheme: Scheme, prefix: str = "resampler") -> None:
        super().__init__()
        d, self.prefix, self.config = config.hidden_size, prefix, config
        self.heads, self.tiles = config.num_attention_heads, attention_to_all(scheme)
        self.query = Rows(f"{prefix}.query", (config.query_num, d))
        self.ln_q = [Rows(f"{prefix}.ln_q.{part}", (d,)) for part in ("weight", "bias")]
        positions = Rows(f"{prefix}.pos_embed", self.query.shape)
        self.pos_embed = [positions] if config.has_query_positions else []
        (weight,), (bias,) = self._rows(0)
        self.projected_query = Stored(
            self.query.shape,
            self._project_query,
            [self.query, *self.ln_q, *self.pos_embed, weight, bias],
        )
        self.key_positions = (
            EnlargedPositions(positions, config.key_grid)
            if config.key_grid
            else ComputedPositions(d)
        )
        if config.has_times:
            self.time_positions = TimePositions(d)
        self.kv_proj = Linear(
            scheme, [Rows(f"{prefix}.kv_proj.weight", (d, config.vision_hidden_size))]
        )
        self.ln_kv = LayerNorm(f"{prefix}.ln_kv", d, EPS)
        self.k_proj = self._in_proj(scheme, 1)
        self.v_proj = self._in_proj(scheme, 2)
        self.out_proj = Linear(
            scheme,
            [Rows(f"{prefix}.attn.out_proj.weight", (d, d))],
            [Rows(f"{prefix}.attn.out_proj.bias", (d,))],
        )
        self.ln_post = LayerNorm(f"{prefix}.ln_post", d, EPS)
        self.proj = Linear(scheme, [Rows(f"{prefix}.proj", (d, d))], transpose=True)

    def forward(
        self, features: nn.Tensor, grid: nn.Tensor, times: nn.Tensor | None = None
    ) -> nn.Tensor:
        kv = self.ln_kv(self.kv_proj(features)).computed()  # (n, d)
        keyed = op.add(kv, self.key_positions(grid))
        if times is not None:
            keyed = op.add(keyed, self.time_positions(times))
        k, v = self.k_proj(keyed), self.v_proj(kv)
        mixed = self._mixed(k, v, grid) if self.config.has_padding else self._attend(k, v)
        return self.proj(self.ln_post(self.out_proj(mixed)))

    def _attend(self, k: nn.Tensor, v: nn.Tensor) -> nn.Tensor:
        return opaque(
            partial(_cross_attention, heads=self.heads, tiles=self.tiles),
            "resampler_attention",
            self.projected_query.value,
            k,
            v,
        )

    def _mixed(self, k: nn.Tensor, v: nn.Tensor, grid: nn.Tensor) -> nn.Tensor:
        """Attention to the patches of a tile alone: the result of all patches, with the values of
        padding at zero, divided by the sum of the weights that are not padding's."""
        shown = opaque(partial(_shown, width=self.config.hidden_size), "shown_patches", grid)
        return op.divide(self._attend(k, op.multiply(v, shown)), self._attend(k, shown))

    def _rows(self, part: int) -> tuple[list[Rows], list[Rows]]:
        """Weight and bias of q (0), k (1) or v (2): a third of one stored tensor each."""
        d = self.config.hidden_size
        place = (part * d, (part + 1) * d)
        name = f"{self.prefix}.attn.in_proj"
        weight = Rows(f"{name}_weight", (3 * d, d), *place)
        return [weight], [Rows(f"{name}_bias", (3 * d,), *place)]

    def _in_proj(self, scheme: Scheme, part: int) -> Linear:
        return Linear(scheme, *self._rows(part))

    def _project_query(self, checkpoint: Checkpoint) -> np.ndarray:
        query = self.query.read(checkpoint).astype(np.float64)
        centred = query - query.mean(-1, keepdims=True)
        query = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS)
        scale, shift = (source.read(checkpoint) for source in self.ln_q)
        query = query * scale + shift
        query += sum(source.read(checkpoint) for source in self.pos_embed)
        (weight,), (bias,) = self._rows(0)
        return query @ weight.read(checkpoint).T.astype(np.float64) + bias.read(checkpoint)


def _shown(grid: te.Tensor, width: int) -> te.Tensor:
    """grid (n, 2) -> (n, width) float32: 1 for patches of the tile, 0 for padding."""
    zero, one = (tirx.const(value, "float32") for value in (0.0, 1.0))

    def value(i: Expr, j: Expr) -> Expr:
        return tirx.Select(grid[i, 0] >= 0, one, zero)

    return te.compute((grid.shape[0], width), value, name="shown_patches")


def _cross_attention(q: te.Tensor, k: te.Tensor, v: te.Tensor, heads: int, tiles: str) -> te.Tensor:
    """q (queries, d), k and v (n, d) -> (queries, d)."""
    head_dim = int(k.shape[1]) // heads
    queries, keys, values = (attention_op.heads_of(x, heads, head_dim) for x in (q, k, v))
    return attention_op.attention_over_all(queries, keys, values, head_dim**-0.5, tiles)
