"""Grouped-query attention over keys in panels of 16 positions.

Keys are (kv heads, ceil(length / 16), head_dim, 16): 16 consecutive positions are one vector load,
so scores need no reduction across lanes. Values are (kv heads, positions, head_dim). The query
heads that share a kv head are the rows of one small matmul, so a key is loaded once for all of
them.
"""

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.cpu.attention_shape import Limit, Tiling
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.isa.score_products import CODES
from handglass.schedules.rule import PATTERN
from handglass.schedules.select import ON_GPU
from handglass.schedules.tiling import is_one

from . import gpu_attention
from .attention_tiles import attend
from .bf16_attention import (
    attend_in_tiles,
    key_of_panels,
    key_of_rows,
    value_of_cache,
    value_of_rows,
)
from .exponential import LOG2_E
from .index_type import int64
from .integer_attention import attend_in_integers
from .lazy import Lazy, stored
from .scope import on_gpu

TILE, HALF = 12, 6
"""Rows per tile: two register tiles of six rows, or three of four."""
_PACKED = {PATTERN: "packed"}


def attention(
    q: te.Tensor | Lazy,
    keys: te.Tensor,
    values: te.Tensor | Lazy,
    scale: float,
    limit: Limit,
    scales: tuple[te.Tensor, ...] = (),
    tiles: bool | str = False,
) -> te.Tensor:
    """softmax(q k^T * scale) v.

    q (s, h, d), keys (h_kv, >= ceil(length/16), d, 16), values (h_kv, >= length, d) -> (s, h * d).
    Query i attends to the positions below `limit(i)`, which must be at least 1 and non-decreasing.
    int8 keys and values need `scales`, (h_kv, panels, 16) float32 each: one scale per position.
    `tiles`: many queries are computed with operands of 16 bits: in tile registers, in bfloat16, or
    in float16 on a GPU, by the part of TILE_ATTENTION (schedules/select.py). A model for a GPU that
    is built for a CPU, which computes known answers, has float32.
    """
    q = q if isinstance(q, Lazy) else stored(q)
    if on_gpu():
        values = values if isinstance(values, Lazy) else stored(values)
        rounded = bool(tiles) and not is_one(int64(q.shape[0]))
        return gpu_attention.attend(q, keys, values, scales, scale, limit, rounded)
    assert isinstance(values, te.Tensor), "values may be a Lazy view on a GPU only"
    s, h = int64(q.shape[0]), int(q.shape[1])
    if _in_registers(tiles) and not is_one(s):
        key, value = key_of_panels(keys, *scales[:1]), value_of_cache(values, *scales[1:])
        return attend_in_tiles(q, key, value, int(keys.shape[0]), scale, limit)
    group = h // int(keys.shape[0])  # query heads per kv head
    tiling = Tiling(s, group, _tile(s, group), limit)
    return attend(_rows(q.tensor(), tiling, scale), keys, values, scales, tiling)


def attention_over_all(
    q: Lazy, k: Lazy, v: Lazy, scale: float, tiles: bool | str = False, is_causal: bool = False
) -> te.Tensor:
    """Attention of q (s, h, d) to all positions of k and v (n, h_kv, d) -> (s, h * d).

    `is_causal`: row i, of as many queries as positions, attends to the positions up to its own.
    """
    n = k.shape[0]
    limit: Limit = (lambda i: i + 1) if is_causal else (lambda i: n)
    if (codes := CODES.get(str(tiles))) and not is_causal and not on_gpu():
        values = head_major(v)
        assert isinstance(values, te.Tensor)
        rows = int64(q.shape[0]) * (int(q.shape[1]) // int(k.shape[1]))
        return attend_in_integers(q, k, values, scale, limit, codes, _least_padded(rows))
    if _in_registers(tiles):
        key, value = key_of_rows(k), value_of_rows(v)
        return attend_in_tiles(q, key, value, int(k.shape[1]), scale, limit)
    return attention(q, key_panels(k), head_major(v), scale, limit, tiles=tiles)


def _in_registers(tiles: bool | str) -> bool:
    return bool(tiles) and tiles not in {ON_GPU, *CODES} and not on_gpu()


def heads_of(x: te.Tensor, heads: int, d: int, first: int = 0) -> Lazy:
    """Columns `first` to `first + heads * d` of x (n, width), as a view (n, heads, d)."""
    return Lazy(
        "split", (x.shape[0], heads, d), (x,), lambda ins, i, h, e: ins[0][i, first + h * d + e]
    )


def part_of(x: Lazy, first: Expr | int, count: Expr | int) -> Lazy:
    """Rows `first` to `first + count` of x (n, heads, d), as a view."""
    value = lambda ins, i, h, e: x.value(ins, i + first, h, e)  # noqa: E731
    return Lazy("part", (count, *x.shape[1:]), x.inputs, value)


def key_panels(keys: te.Tensor | Lazy) -> te.Tensor:
    """(n, h, d) -> (h, ceil(n/16), d, 16); the last position is repeated to fill the last panel."""
    keys = keys.tensor() if isinstance(keys, Lazy) else keys
    n, h, d = keys.shape
    return te.compute(
        (h, (n + LANES - 1) // LANES, d, LANES),
        lambda head, block, e, lane: keys[tirx.min(block * LANES + lane, n - 1), head, e],
        name="key_panels",
        attrs=_PACKED,
    )


def head_major(values: te.Tensor | Lazy) -> te.Tensor | Lazy:
    """(n, h, d) -> (h, 16 * ceil(n/16), d); the last position is repeated to fill the last panel.

    On a GPU the result is a view (h, n, d), as GPU kernels do not read past the last position.
    """
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
    """Rows per tile; for a static number of rows, the tile with the least padding."""
    rows = s * group
    if isinstance(rows, tirx.IntImm) and int(rows) <= HALF:
        return int(rows)
    return _least_padded(rows)


def _least_padded(rows: Expr) -> int:
    if not isinstance(rows, tirx.IntImm):
        return TILE
    return min((TILE, HALF), key=lambda tile: -int(rows) % tile)


def _rows(q: te.Tensor, tiling: Tiling, scale: float) -> te.Tensor:
    """q (s, h, d) -> (h_kv, rows, d), scaled so that exp becomes exp2.

    The last query is repeated to fill the last tile.
    """
    _, h, d = q.shape
    s, group = tiling.queries, tiling.group
    factor = tirx.const(scale * LOG2_E, "float32")

    def value(head, r, e):
        return q[tirx.min(r // group, s - 1), head * group + r % group, e] * factor

    shape = (int(h) // group, tiling.tiles * tiling.tile, d)
    return te.compute(shape, value, name="query_rows", attrs={PATTERN: "query_rows"})
