"""Grouped attention over keys laid out in panels of 16 positions.

Keys come as (kv heads, ceil(length / 16), head_dim, 16): 16 neighbouring positions are one vector
load, so scores need no sums across lanes. Values come as (kv heads, positions, head_dim). The query
heads that share a kv head are rows of one small matmul, so a key is loaded once for all of them.
"""

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.rule import PATTERN

from . import gpu_attention
from .attention_tiles import Limit, Tiling, attend, int64
from .exponential import LOG2_E
from .lazy import Lazy, stored
from .scope import on_gpu

TILE, HALF = 12, 6
"""Rows of a tile: two times six, or three times four, are a tile of vector registers."""
_PACKED = {PATTERN: "packed"}


def attention(
    q: te.Tensor | Lazy,
    keys: te.Tensor,
    values: te.Tensor | Lazy,
    scale: float,
    limit: Limit,
    scales: tuple[te.Tensor, ...] = (),
) -> te.Tensor:
    """softmax(q k^T * scale) v.

    q (s, h, d), keys (h_kv, >= ceil(length/16), d, 16), values (h_kv, >= length, d) -> (s, h * d).
    Query i sees the positions below `limit(i)`; that must be at least one, and never fall as i
    grows. Keys and values in int8 come with `scales`, (h_kv, panels, 16) each, one per position.
    """
    q = q if isinstance(q, Lazy) else stored(q)
    if on_gpu():
        values = values if isinstance(values, Lazy) else stored(values)
        return gpu_attention.attend(q, keys, values, scales, scale, limit)
    assert isinstance(values, te.Tensor), "only a GPU reads values that are not stored"
    s, h = int64(q.shape[0]), int(q.shape[1])
    group = h // int(keys.shape[0])  # query heads per kv head
    tiling = Tiling(s, group, _tile(s, group), limit)
    return attend(_rows(q.tensor(), tiling, scale), keys, values, scales, tiling)


def heads_of(x: te.Tensor, heads: int, d: int, first: int = 0) -> Lazy:
    """The columns of x (n, width) from `first` on as (n, heads, d)."""
    return Lazy(
        "split", (x.shape[0], heads, d), (x,), lambda ins, i, h, e: ins[0][i, first + h * d + e]
    )


def key_panels(keys: te.Tensor | Lazy) -> te.Tensor:
    """(n, h, d) -> (h, ceil(n/16), d, 16); the last position fills up the last panel."""
    keys = keys.tensor() if isinstance(keys, Lazy) else keys
    n, h, d = keys.shape
    return te.compute(
        (h, (n + LANES - 1) // LANES, d, LANES),
        lambda head, block, e, lane: keys[tirx.min(block * LANES + lane, n - 1), head, e],
        name="key_panels",
        attrs=_PACKED,
    )


def head_major(values: te.Tensor | Lazy) -> te.Tensor | Lazy:
    """(n, h, d) -> (h, 16 ceil(n/16), d); the last position fills up the last panel. On a GPU,
    which reads no position behind the last, it is a view (h, n, d)."""
    values = values if isinstance(values, Lazy) else stored(values)
    n, h, d = values.shape
    if on_gpu():
        turned = lambda ins, head, j, e: values.value(ins, j, head, e)  # noqa: E731
        return Lazy("head_major", (h, n, d), values.inputs, turned)
    tensor = values.tensor()
    return te.compute(
        (h, (n + LANES - 1) // LANES * LANES, d),
        lambda head, j, e: tensor[tirx.min(j, n - 1), head, e],
        name="head_major",
        attrs=_PACKED,
    )


def _tile(s: Expr, group: int) -> int:
    """Rows of a tile; one that fits where it is known how many there are."""
    if not isinstance(s, tirx.IntImm):
        return TILE
    rows = int(s) * group
    if rows <= HALF:
        return rows
    return min((TILE, HALF), key=lambda tile: -rows % tile)


def _rows(q: te.Tensor, tiling: Tiling, scale: float) -> te.Tensor:
    """(h_kv, rows, d), scaled so that exp becomes exp2; the last query fills up the last tile."""
    _, h, d = q.shape
    s, group = tiling.queries, tiling.group
    factor = tirx.const(scale * LOG2_E, "float32")

    def value(head, r, e):
        return q[tirx.min(r // group, s - 1), head * group + r % group, e] * factor

    shape = (int(h) // group, tiling.tiles * tiling.tile, d)
    return te.compute(shape, value, name="query_rows", attrs={PATTERN: "query_rows"})
