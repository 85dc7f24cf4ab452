"""The vision side of Llama 3.2: an encoder of all tiles of a picture together.

The rows are those of `runtime/prompt/tiled.py`: first those of the picture's own tiles, each a
class token and its patches; then those of the tiles that its canvas lacks, and padding. Rows of the
last two kinds are hidden from each other only: those of the picture attend to them, as in training,
so they are computed. The result has the rows of the picture's tiles alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from handglass.errors import UsageError

from ..checkpoints.checkpoint import Checkpoint
from ..ops import exponential
from ..ops.attention import attention_over_all, heads_of, part_of
from ..schemes.scheme import Scheme, attention_to_all
from .cross_attention import gate, gated_sum
from .layers import LayerNorm, Linear, opaque
from .leaves import Leaf, Part, Rows, Stored
from .mllama_config import TiledVisionConfig
from .vision import linear, patches_of

OUTER_EPS = 1e-5
"""Epsilon of the norms before and after the first part, which is not configurable."""


class TiledVisionTower(nn.Module):
    """pixels (3, p, p * n), position_ids (n,), grid (r, 2) -> (r, hidden size of the language)."""

    def __init__(
        self,
        config: TiledVisionConfig,
        hidden_size: int,
        scheme: Scheme,
        prefix: str,
        projector: str,
    ) -> None:
        super().__init__()
        if scheme.units.gpu is not None:
            raise UsageError(
                "--target: the tiled vision encoder has no GPU kernels yet; choose a target "
                "without a GPU"
            )
        d, p, self.config = config.hidden_size, config.patch_size, config
        weight = Rows(f"{prefix}.patch_embedding.weight", (d, 3, p, p))
        self.patch_embedding = Linear(scheme, [weight])
        self.positions = RowPositions(config, prefix)
        self.layernorm_pre = LayerNorm(f"{prefix}.layernorm_pre", d, OUTER_EPS)
        self.layers = _layers(config, scheme, f"{prefix}.transformer", config.num_hidden_layers)
        self.layernorm_post = LayerNorm(f"{prefix}.layernorm_post", d, OUTER_EPS)
        self.tile_positions = _tile_positions(config, f"{prefix}.post_tile_positional_embedding")
        self.global_layers = _layers(
            config, scheme, f"{prefix}.global_transformer", config.num_global_layers, True
        )
        self.projector = Projector(config, scheme, projector, hidden_size)

    def forward(self, pixels: nn.Tensor, position_ids: nn.Tensor, grid: nn.Tensor) -> nn.Tensor:
        return self.projector(self.encode(pixels, position_ids, grid))

    def encode(self, pixels: nn.Tensor, position_ids: nn.Tensor, grid: nn.Tensor) -> nn.Tensor:
        """The features of the picture's tiles, (r, d * (1 + intermediate layers))."""
        x, kept = self.embed(pixels, position_ids), []
        for number, layer in enumerate(self.layers):
            if number in self.config.intermediate_layers:
                kept.append(x)
            x = layer(x, grid)
        x = self.layernorm_post(x).computed()
        x = opaque(self._with_tile, "tile_positions", x, self.tile_positions.value, position_ids)
        for layer in self.global_layers:
            x = layer(x, grid)
        return opaque(_interleaved, "features", grid, x, *kept)

    def embed(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        """The input of the first layer, (n, d)."""
        patches = opaque(
            lambda pixels, ids: patches_of(pixels, ids.shape[0], self.config.patch_size),
            "patches",
            pixels,
            position_ids,
        )
        x = op.add(self.patch_embedding(patches), self.positions(position_ids))
        return opaque(self._without_padding, "rows", self.layernorm_pre(x).computed(), position_ids)

    def _without_padding(self, x: te.Tensor, ids: te.Tensor) -> te.Tensor:
        """Rows of padding are zeros."""
        count, every = (
            tirx.const(number, "int32")
            for number in (self.config.tile_rows, self.config.padded_rows)
        )
        value = lambda i, j: tirx.Select(ids[i] % every < count, x[i, j], _f32(0))  # noqa: E731
        return te.compute(x.shape, value, name="rows")

    def _with_tile(self, x: te.Tensor, table: te.Tensor, ids: te.Tensor) -> te.Tensor:
        every = tirx.const(self.config.padded_rows, "int32")
        value = lambda i, j: x[i, j] + table[ids[i] // every, j]  # noqa: E731
        return te.compute(x.shape, value, name="tile_positions")


class RowPositions(Leaf):
    """position_ids (n,) -> (n, d): what is added to a row before the first norm.

    It depends on the arrangement of tiles, on the tile, and on the row in it: the position of the
    tile, that of the row, and the class token in the first row. Gates are part of the table.
    """

    def __init__(self, config: TiledVisionConfig, prefix: str) -> None:
        super().__init__()
        self.config, d, every = config, config.hidden_size, config.max_num_tiles
        place = f"{prefix}.gated_positional_embedding"
        tile = f"{prefix}.pre_tile_positional_embedding"
        rows, kinds = config.tile_rows, config.ratios + 1
        self.class_token = Rows(f"{prefix}.class_embedding", (d,))
        self.shared = Rows(f"{place}.embedding", (rows, d))
        self.place_gate = Rows(f"{place}.gate", (1,))
        self.places = Rows(f"{place}.tile_embedding.weight", (kinds, every * rows * d))
        self.tile_gate = Rows(f"{tile}.gate", (1,))
        self.tile = Rows(f"{tile}.embedding.weight", (kinds, every * d))
        self.sources = (
            self.class_token,
            self.shared,
            self.place_gate,
            self.places,
            self.tile_gate,
            self.tile,
        )
        self.value = nn.Parameter((config.ratios * every, rows, d), "float32")

    def stream(self, checkpoint: Checkpoint) -> Iterator[Part]:
        config, d, every = self.config, self.config.hidden_size, self.config.max_num_tiles
        gates = (self.place_gate, self.tile_gate)
        own, tile_gate = (np.tanh(source.read(checkpoint)) for source in gates)
        shared = (1 - own) * self.shared.read(checkpoint)
        shared[0] += self.class_token.read(checkpoint)
        for source in (self.places, self.tile):
            checkpoint.expect(source.name, source.shape)
        for number, (start, stop) in enumerate(pairwise(range(1, config.ratios + 2))):  # 0: none
            places = checkpoint.read_rows(self.places.name, start, stop)
            tile = checkpoint.read_rows(self.tile.name, start, stop).reshape(every, 1, d)
            table = own * places.reshape(every, config.tile_rows, d) + shared
            table[:, 1:] += tile_gate * tile
            yield "value", number * every, np.ascontiguousarray(table, np.float32)

    def forward(self, position_ids: nn.Tensor) -> nn.Tensor:
        return opaque(self._gather, "row_positions", self.value, position_ids)

    def _gather(self, table: te.Tensor, ids: te.Tensor) -> te.Tensor:
        every = tirx.const(self.config.padded_rows, "int32")
        last = tirx.const(self.config.tile_rows - 1, "int32")  # padding: any, it becomes zeros

        def value(i, j):
            return table[ids[i] // every, tirx.min(ids[i] % every, last), j]

        return te.compute((ids.shape[0], table.shape[2]), value, name="row_positions")


class TiledLayer(nn.Module):
    """x + attention(LN(x)), then x + mlp(LN(x)); x (n, d). The branches may have gates."""

    def __init__(
        self, config: TiledVisionConfig, scheme: Scheme, prefix: str, is_gated: bool
    ) -> None:
        super().__init__()
        d, f, eps = config.hidden_size, config.intermediate_size, config.norm_eps
        rows = [Rows(f"{prefix}.self_attn.{name}_proj.weight", (d, d)) for name in "qkvo"]
        self.layer_norm1 = LayerNorm(f"{prefix}.input_layernorm", d, eps)
        self.qkv_proj, self.out_proj = Linear(scheme, rows[:3]), Linear(scheme, rows[3:])
        self.layer_norm2 = LayerNorm(f"{prefix}.post_attention_layernorm", d, eps)
        self.fc1 = linear(scheme, prefix, (f, d), "mlp.fc1")
        self.fc2 = linear(scheme, prefix, (d, f), "mlp.fc2")
        self.attn_gate = gate(f"{prefix}.gate_attn") if is_gated else None
        self.mlp_gate = gate(f"{prefix}.gate_ffn") if is_gated else None
        self.heads, self.tiles = config.num_attention_heads, attention_to_all(scheme)

    def forward(self, x: nn.Tensor, grid: nn.Tensor) -> nn.Tensor:
        qkv = self.qkv_proj(self.layer_norm1(x))  # (n, 3 d)
        attend = partial(_attend, heads=self.heads, tiles=self.tiles)
        seen, rest = (
            opaque(partial(attend, is_seen=is_seen), f"{name}_attention", qkv, grid)
            for is_seen, name in ((True, "tile"), (False, "padding"))
        )
        mixed = opaque(_joined, "joined", seen, rest, qkv)
        x = _sum(x, self.out_proj(mixed), self.attn_gate)
        hidden = self.fc1(self.layer_norm2(x))  # (n, f)
        hidden = op.tensor_expr_op(exponential.gelu, "gelu", [hidden])
        return _sum(x, self.fc2(hidden), self.mlp_gate)


class Projector(nn.Module):
    """features (r, columns) -> (r, hidden size of the language)."""

    def __init__(
        self, config: TiledVisionConfig, scheme: Scheme, name: str, hidden_size: int
    ) -> None:
        super().__init__()
        weight = Rows(f"{name}.weight", (hidden_size, config.features))
        self.linear = Linear(scheme, [weight], [Rows(f"{name}.bias", (hidden_size,))])

    def forward(self, features: nn.Tensor) -> nn.Tensor:
        return self.linear(features)


def _layers(
    config: TiledVisionConfig, scheme: Scheme, prefix: str, count: int, is_gated: bool = False
) -> nn.ModuleList:
    return nn.ModuleList(
        [TiledLayer(config, scheme, f"{prefix}.layers.{i}", is_gated) for i in range(count)]
    )


def _tile_positions(config: TiledVisionConfig, prefix: str) -> Stored:
    """(arrangements * tiles, d): what is added to all rows of a tile."""
    every, d = config.max_num_tiles, config.hidden_size
    table = Rows(f"{prefix}.embedding.weight", (config.ratios + 1, every * d))
    factor = Rows(f"{prefix}.gate", (1,))

    def read(checkpoint: Checkpoint) -> np.ndarray:
        rows = table.read(checkpoint)[1:].reshape(-1, d)  # 0: no picture
        return np.tanh(factor.read(checkpoint)) * rows

    return Stored((config.ratios * every, d), read, [table, factor])


def _attend(qkv: te.Tensor, grid: te.Tensor, heads: int, tiles: str, is_seen: bool) -> te.Tensor:
    """qkv (n, 3 d), grid (r, 2) -> (r, d), the first r rows attending to all rows, or (n - r, d),
    the others attending to the first r."""
    n, r, d = qkv.shape[0], grid.shape[0], int(qkv.shape[1]) // 3
    q, k, v = (heads_of(qkv, heads, d // heads, part * d) for part in range(3))
    if is_seen:
        q = part_of(q, 0, r)
    else:
        q, k, v = part_of(q, r, n - r), part_of(k, 0, r), part_of(v, 0, r)
    return attention_over_all(q, k, v, (d // heads) ** -0.5, tiles)


def _joined(seen: te.Tensor, rest: te.Tensor, qkv: te.Tensor) -> te.Tensor:
    """The rows of both, one after the other; `qkv` has as many."""
    r, last = seen.shape[0], rest.shape[0] - 1

    def value(i, j):
        first = seen[tirx.min(i, r - 1), j]
        return tirx.Select(i < r, first, rest[tirx.max(tirx.min(i - r, last), 0), j])

    return te.compute((qkv.shape[0], seen.shape[1]), value, name="joined")


def _interleaved(grid: te.Tensor, x: te.Tensor, *kept: te.Tensor) -> te.Tensor:
    """The first r rows: x, then the columns of the k intermediate results in turn, (r, d + d k)."""
    d, k = int(x.shape[1]), len(kept)

    def value(i, j):
        place = tirx.max(j - d, 0)
        chosen = kept[-1][i, place // k]
        for number in range(k - 1):
            chosen = tirx.Select(place % k == number, kept[number][i, place // k], chosen)
        return tirx.Select(j < d, x[i, tirx.min(j, d - 1)], chosen)

    shape = (grid.shape[0], d * (k + 1))
    return te.compute(shape, value if k else lambda i, j: x[i, j], name="features")


def _sum(x: nn.Tensor, branch: nn.Tensor, factor: Stored | None) -> nn.Tensor:
    return op.add(x, branch) if factor is None else gated_sum(x, branch, factor)


def _f32(value: float) -> tirx.PrimExpr:
    return tirx.const(value, "float32")
