"""Attention in bfloat16: q, k, v and the weights of the softmax, in tiles of 1 KB.

They are for tile registers (AMX), or for dot products of pairs where the schedule says so. Sums,
maxima and the result are float32. Keys and values are rounded once per call, for all rows;
they may come from a cache of any type.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from handglass.schedules.cpu.attention_shape import Limit, Tiling
from handglass.schedules.cpu.bf16_attention_nest import attention_nest
from handglass.schedules.cpu.bf16_attention_shape import (
    ROWS,
    SPAN,
    TILED,
    TileBlocking,
    TileOperands,
    TileShape,
    columns_of,
    steps_of,
)
from handglass.schedules.cpu.bf16_attention_tiles import TileBlock
from handglass.schedules.isa.amx_instructions import TILE
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.loops import ceil_div, int64
from handglass.schedules.rule import MULTIPLY_ADDS, PATTERN, SEEN

from .bf16_operands import Positions, query_nest
from .exponential import LOG2_E
from .lazy import Lazy
from .written_nests import distinct, step_of, written


def attend_in_tiles(
    q: Lazy, keys: Lazy, values: Lazy, kv_heads: int, scale: float, limit: Limit
) -> te.Tensor:
    """softmax(q k^T * scale) v for q (s, h, d), unscaled -> (s, h * d) float32.

    keys(head, panel, lane, e) and values(head, position, e) need only be defined for positions
    below limit(s - 1). Query i attends to the positions below `limit(i)`, see `attention`.
    """
    s, h, d = int64(q.shape[0]), int(q.shape[1]), int(q.shape[2])
    tiling = Tiling(s, h // kv_heads, ROWS, limit)
    rows = _queries(q, tiling, kv_heads, scale)
    panels, words = _positions(keys, values, tiling, kv_heads, d)

    def nest(ins: Sequence[tirx.Buffer], outs: Sequence[tirx.Buffer]) -> None:
        operands = TileOperands(*ins, *outs)
        attention_nest(TileShape(tiling, d, TileBlocking(), operands), TileBlock)

    first, step = limit(int64(0)), step_of(limit)
    attrs = {
        PATTERN: "tile-attention",
        # As in attention_tiles.py.
        MULTIPLY_ADDS: [h * d, s, first + limit(s - 1)],
        TILED: [d, first, step],
    }
    (out,) = written("attention", [(s, h * d)], "float32", [rows, panels, words], nest, attrs)
    return out


def key_of_panels(keys: te.Tensor, *scales: te.Tensor) -> Lazy:
    """Keys (h_kv, panels, d, 16) of a cache, times scales (h_kv, panels, 16) if they have some."""

    def value(ins, head, panel, lane, e):
        key = ins[0][head, panel, e, lane].astype("float32")
        return key * ins[1][head, panel, lane] if len(ins) > 1 else key

    return Lazy("keys", keys.shape, (keys, *scales), value)


def value_of_cache(values: te.Tensor, *scales: te.Tensor) -> Lazy:
    """Values (h_kv, positions, d), times scales (h_kv, panels, 16) if they have some."""

    def value(ins, head, j, e):
        number = ins[0][head, j, e].astype("float32")
        return number * ins[1][head, j // LANES, j % LANES] if len(ins) > 1 else number

    return Lazy("values", values.shape, (values, *scales), value)


def key_of_rows(k: Lazy) -> Lazy:
    """k (n, h, d) by panels; the last position fills the last one."""
    last = k.shape[0] - 1
    at = lambda panel, lane: tirx.min(panel * LANES + lane, last)  # noqa: E731
    return Lazy(
        "keys", (), k.inputs, lambda ins, h, panel, lane, e: k.value(ins, at(panel, lane), h, e)
    )


def value_of_rows(v: Lazy) -> Lazy:
    """v (n, h, d) by heads."""
    return Lazy("values", (), v.inputs, lambda ins, h, j, e: v.value(ins, j, h, e))


def _queries(q: Lazy, tiling: Tiling, kv_heads: int, scale: float) -> te.Tensor:
    """Scaled so that exp becomes exp2."""
    d = int(q.shape[2])
    shape = (kv_heads, tiling.tiles * (ROWS // TILE), steps_of(d), TILE, SPAN)

    def nest(ins: Sequence[tirx.Buffer], outs: Sequence[tirx.Buffer]) -> None:
        query_nest(q.read(ins), ins, outs[0], tiling, d, scale * LOG2_E)

    attrs = {PATTERN: "tile-queries", MULTIPLY_ADDS: [0]}
    (rows,) = written("queries", [shape], "uint16", q.inputs, nest, attrs)
    return rows


def _positions(
    keys: Lazy, values: Lazy, tiling: Tiling, kv_heads: int, d: int
) -> Sequence[te.Tensor]:
    count = int64(tiling.limit(tiling.queries - 1))
    spans = ceil_div(count, SPAN)
    inputs = distinct([*keys.inputs, *values.inputs])
    hides = not isinstance(step := step_of(tiling.limit), tirx.IntImm) or int(step) != 0

    def nest(ins: Sequence[tirx.Buffer], outs: Sequence[tirx.Buffer]) -> None:
        given = dict(zip(inputs, ins, strict=True))
        key, value = (lazy.read([given[t] for t in lazy.inputs]) for lazy in (keys, values))
        panels, words = outs
        by_rows = not keys.shape
        Positions(key, by_rows, value, ins, count, d, panels, words, hides).nest()

    shapes = [
        (kv_heads, spans, SPAN // TILE, steps_of(d), TILE, TILE),
        (kv_heads, spans, columns_of(d), TILE, TILE),
    ]
    attrs = {PATTERN: "tile-positions", MULTIPLY_ADDS: [0]}
    if values.shape:  # of a cache, which may have more
        attrs[SEEN] = [count, values.shape[1]]
    return written("positions", shapes, "uint32", inputs, nest, attrs)
