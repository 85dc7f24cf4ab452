"""Grouped attention over keys laid out in panels of 16 positions.

Keys come as (kv heads, ceil(length / 16), head_dim, 16): 16 neighbouring positions are one vector
load, so scores need no sums across lanes. Values come as (kv heads, positions, head_dim), finite up
to the end of the last panel (positions past the length are multiplied by 0). With one
query (decode) the query heads that share a kv head are the rows of one small matmul, so a key is
loaded once for all of them; with many queries the rows are the queries of one head.
"""

from collections.abc import Callable

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.cpu_matmul import LANES
from handglass.schedules.rule import PATTERN

from .exponential import LOG2_E, exp2

ROWS = 4
_LOWEST = -3.0e38
_ATTENTION = {PATTERN: "attention"}
_PACKED = {PATTERN: "packed"}
Visible = Callable[[Expr, Expr], Expr]


def attention(
    q: te.Tensor, keys: te.Tensor, values: te.Tensor, length, scale: float, visible: Visible
) -> te.Tensor:
    """softmax(q k^T * scale) v.

    q (s, h, d), keys (h_kv, >= ceil(length/16), d, 16), values (h_kv, >= length, d) -> (s, h * d).
    `visible(i, j)` says whether query i may see position j < length; every query must see one.
    """
    s, h, d = q.shape
    shared = int(h) // int(keys.shape[0])  # query heads per kv head
    group = shared if isinstance(s, tirx.IntImm) and int(s) == 1 else 1
    kv_head = lambda task: task * group // shared  # noqa: E731 (used by two stages)
    rows = _rows(q, group, scale)
    scores = _scores(rows, keys, (length + LANES - 1) // LANES, kv_head)

    def masked(task, r, block, lane):
        j = block * LANES + lane
        seen = tirx.all(j < length, visible(r // group, j))
        return tirx.Select(seen, scores[task, r, block, lane], tirx.const(_LOWEST, "float32"))

    weights, total = _softmax(scores.shape, masked)
    mixed = _mix(weights, total, values, s * group, kv_head)
    return te.compute(
        (s, h * d),
        lambda i, c: mixed[c // d // group, i * group + c // d % group, c % d],
        name="attention_out",
        attrs={PATTERN: "attention_out"},
    )


def key_panels(keys: te.Tensor) -> te.Tensor:
    """(n, h, d) -> (h, ceil(n/16), d, 16), zero where there is no position."""
    n, h, d = keys.shape
    zero = tirx.const(0.0, "float32")

    def value(head, block, e, lane):
        j = block * LANES + lane
        return tirx.if_then_else(j < n, keys[j, head, e], zero)

    shape = (h, (n + LANES - 1) // LANES, d, LANES)
    return te.compute(shape, value, name="key_panels", attrs=_PACKED)


def head_major(values: te.Tensor) -> te.Tensor:
    """(n, h, d) -> (h, 16 ceil(n/16), d), zero where there is no position."""
    n, h, d = values.shape
    zero = tirx.const(0.0, "float32")
    return te.compute(
        (h, (n + LANES - 1) // LANES * LANES, d),
        lambda head, j, e: tirx.if_then_else(j < n, values[j, head, e], zero),
        name="head_major",
        attrs=_PACKED,
    )


def _rows(q: te.Tensor, group: int, scale: float) -> te.Tensor:
    """(tasks, rows, d): queries padded to whole tiles, scaled so that exp becomes exp2."""
    s, h, d = q.shape
    height = (s * group + ROWS - 1) // ROWS * ROWS
    factor, zero = tirx.const(scale * LOG2_E, "float32"), tirx.const(0.0, "float32")

    def value(task, r, e):
        inside = r < s * group
        return tirx.if_then_else(inside, q[r // group, task * group + r % group, e] * factor, zero)

    shape = (int(h) // group, height, d)
    return te.compute(shape, value, name="query_rows", attrs={PATTERN: "query_rows"})


def _scores(rows: te.Tensor, keys: te.Tensor, blocks, kv_head) -> te.Tensor:
    tasks, height, d = rows.shape
    e = te.reduce_axis((0, int(d)), "e")
    return te.compute(
        (tasks, height, blocks, LANES),
        lambda task, r, block, lane: te.sum(
            rows[task, r, e] * keys[kv_head(task), block, e, lane].astype("float32"), axis=e
        ),
        name="scores",
        attrs=_ATTENTION,
    )


def _softmax(shape, masked) -> tuple[te.Tensor, te.Tensor]:
    """Unnormalised weights exp2(score - row maximum), and their sums per row."""
    tasks, height, blocks, lanes = shape
    b = te.reduce_axis((0, blocks), "b")
    peaks = te.compute(
        (tasks, height, lanes),
        lambda task, r, lane: te.max(masked(task, r, b, lane), axis=b),
        name="peak_lanes",
        attrs=_ATTENTION,
    )
    peak = _across_lanes(peaks, te.max, "peak")
    weights = te.compute(
        shape,
        lambda task, r, block, lane: exp2_or_zero(masked(task, r, block, lane), peak[task, r]),
        name="weights",
        attrs=_ATTENTION,
    )
    c = te.reduce_axis((0, blocks), "c")
    sums = te.compute(
        (tasks, height, lanes),
        lambda task, r, lane: te.sum(weights[task, r, c, lane], axis=c),
        name="total_lanes",
        attrs=_ATTENTION,
    )
    return weights, _across_lanes(sums, te.sum, "total")


def exp2_or_zero(score: Expr, peak: Expr) -> Expr:
    """exp2(score - peak), exactly 0 for a masked score."""
    hidden = score <= tirx.const(_LOWEST, "float32")
    return tirx.Select(hidden, tirx.const(0.0, "float32"), exp2(score - peak))


def _across_lanes(partial: te.Tensor, reduce, name: str) -> te.Tensor:
    tasks, height, lanes = partial.shape
    lane = te.reduce_axis((0, lanes), "lane")
    return te.compute(
        (tasks, height),
        lambda task, r: reduce(partial[task, r, lane], axis=lane),
        name=name,
        attrs=_ATTENTION,
    )


def _mix(weights, total: te.Tensor, values: te.Tensor, count, kv_head) -> te.Tensor:
    """Weighted values, normalised, for the first `count` rows: the padding ends here."""
    tasks, height, blocks, lanes = weights.shape
    d = values.shape[2]
    b, j = te.reduce_axis((0, blocks), "b"), te.reduce_axis((0, lanes), "j")
    mixed = te.compute(
        (tasks, height, d),
        lambda task, r, e: te.sum(
            weights[task, r, b, j] * values[kv_head(task), b * lanes + j, e].astype("float32"),
            axis=[b, j],
        ),
        name="mix",
        attrs=_ATTENTION,
    )
    scaled = te.compute(
        (tasks, height, d),
        lambda task, r, e: mixed[task, r, e] / total[task, r],
        name="normalised",
        attrs=_ATTENTION,
    )
    return te.compute(
        (tasks, count, d),
        lambda task, r, e: scaled[task, r, e],
        name="unpadded",
        attrs={PATTERN: "unpadded"},
    )
