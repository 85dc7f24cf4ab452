"""Attention whose scores are dot products of integers: queries and keys are quantized once per
call, one row of a head at a time, and the rest stays float32.

A row is x = code * scale, with the largest magnitude at the largest code. The mean key of a head is
subtracted from its keys first: that adds the same number to all scores of a query, which the
softmax ignores, and a column with a large offset no longer takes the codes from the others. A NaN
or infinity propagates to the scale and so to all scores of its row.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.cpu.attention_shape import Limit, Tiling
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.isa.score_products import ScoreCodes
from handglass.schedules.loops import ceil_div, int64
from handglass.schedules.rule import MULTIPLY_ADDS, PATTERN

from .attention_tiles import attend
from .exponential import LOG2_E
from .integer_operands import KeyCodes, QueryCodes, mean_nest
from .lazy import Lazy
from .written_nests import Nest, written

OPERANDS = {PATTERN: "integer-operands", MULTIPLY_ADDS: [0]}
ROWS = 48
"""Stored queries are a multiple of this, which all offered tiles divide."""


def attend_in_integers(
    q: Lazy, k: Lazy, values: te.Tensor, scale: float, limit: Limit, codes: ScoreCodes, tile: int
) -> te.Tensor:
    """softmax(q k^T * scale) v for q (s, h, d), k (n, h_kv, d), values (h_kv, >= n, d).

    Returns (s, h * d) float32. All queries attend to all positions. `tile`: rows of a tile, a
    divisor of ROWS.
    """
    s, h_kv = int64(q.shape[0]), int(k.shape[1])
    tiling = Tiling(s, int(q.shape[1]) // h_kv, tile, limit)
    rows, row_scales = _queries(q, tiling, h_kv, scale, codes)
    keys, key_scales = _keys(k, codes)
    return attend(rows, keys, values, (row_scales, key_scales), tiling, codes)


def _queries(
    q: Lazy, tiling: Tiling, h_kv: int, scale: float, codes: ScoreCodes
) -> Sequence[te.Tensor]:
    """Codes (h_kv, rows, depth) and scales (h_kv, rows), scaled so that exp becomes exp2."""
    d = int(q.shape[2])
    count = ceil_div(tiling.queries * tiling.group, ROWS) * ROWS
    shapes = [(h_kv, count, codes.depth(d)), (h_kv, count)]

    def nest(ins: Sequence[tirx.Buffer], outs: Sequence[tirx.Buffer]) -> None:
        out, scales = outs
        factor = scale * LOG2_E
        QueryCodes(q.read(ins), ins, out, scales, tiling, d, codes, factor).nest(ROWS)

    return _written("queries", shapes, codes, q.inputs, nest)


def _keys(k: Lazy, codes: ScoreCodes) -> Sequence[te.Tensor]:
    """Codes (h_kv, panels, steps, 16, step) and scales (h_kv, panels, 16) of k (n, h_kv, d)."""
    n, h_kv, d = int64(k.shape[0]), int(k.shape[1]), int(k.shape[2])
    panels = ceil_div(n, LANES)
    mean = _mean(k, n)
    shapes = [(h_kv, panels, codes.steps(d), LANES, codes.step), (h_kv, panels, LANES)]

    def nest(ins: Sequence[tirx.Buffer], outs: Sequence[tirx.Buffer]) -> None:
        *inputs, centre = ins
        key = k.read(inputs)
        centred = lambda j, h, e: key(j, h, e) - centre[h, e]  # noqa: E731
        out, scales = outs
        KeyCodes(centred, ins, out, scales, n, d, codes).nest()

    return _written("keys", shapes, codes, (*k.inputs, mean), nest)


def _mean(k: Lazy, n: Expr) -> te.Tensor:
    shape = (int(k.shape[1]), int(k.shape[2]))

    def nest(ins: Sequence[tirx.Buffer], outs: Sequence[tirx.Buffer]) -> None:
        mean_nest(k.read(ins), ins, outs[0], n)

    (mean,) = written("mean_key", [shape], "float32", k.inputs, nest, OPERANDS)
    return mean


def _written(
    name: str,
    shapes: Sequence[tuple[Expr | int, ...]],
    codes: ScoreCodes,
    inputs: Sequence[te.Tensor],
    nest: Nest,
) -> Sequence[te.Tensor]:
    return written(name, shapes, [codes.dtype, "float32"], inputs, nest, OPERANDS)
