"""Matmul of many rows on a GPU whose warps multiply matrices in registers.

Both operands are copied to shared memory as they are stored, so the kernel before rounds or
quantizes the rows and pads them with zeros to whole steps (`Kernel.step`). There are no conditions:
what lies beyond the last row, column or input is a copy of it, whose products nobody reads or whose
rows are zero.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.gpu.half import to_half
from handglass.schedules.gpu.nibble_order import input_at, nibble
from handglass.schedules.isa.integer_isa import CHUNK_STEPS, GROUP, Codes
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.rule import PATTERN

from .dp4a_matmul import dot
from .gpu_matmul import float32_product
from .index_type import int64, reduce_axis
from .padded import inside, round_up, where, whole_tiles
from .quantized import Quantized

ROWS, COLUMNS = 128, 128
"""Rows and columns are padded to multiples of these, which all tiles divide."""


def round_rows(x: te.Tensor, depth: int, reordered: bool = False) -> te.Tensor:
    """x (m, k) float32 -> (m, depth) float16, padded with zeros.

    With `reordered`, inputs are in the order of schedules/gpu/nibble_order.py; then 16 divides
    `depth`.
    """
    shape = (x.shape[0], int64(depth))

    def value(i: Expr, place: Expr) -> Expr:
        j = input_at(place) if reordered else place
        return where(inside([i, j], x.shape, shape), to_half(x[i, j]))

    return te.compute(shape, value, name="rounded")


def tensor_matmul(x: te.Tensor, out_features: int, weight: te.Tensor) -> te.Tensor:
    """Rows of `round_rows` times panels (panels, k, 16) float16 -> (m, out_features) float32."""
    m, inputs = x.shape[0], int(x.shape[1])
    count, depth = map(int, weight.shape[:2])
    columns = _columns(
        lambda k, p, lane: weight[p, _at_most(k, depth, inputs), lane], inputs, count, out_features
    )
    product = float32_product(_whole_rows(x), columns)
    return te.compute((m, int64(out_features)), lambda i, j: product[i, j], name="out")


def tensor_dot(
    x: Quantized, out_features: int, codes: Codes, weight: te.Tensor, scale: te.Tensor
) -> te.Tensor:
    """Rows of words (m, k / 4) int32 times panels -> (m, out_features) float32.

    weight is (panels, chunks, 4, 16) uint32, scale (panels, 1, 16): codes of 7 or 8 bits.
    """
    m, words = x.codes.shape[0], int(x.codes.shape[1])
    count, chunks = map(int, weight.shape[:2])

    def column(w: Expr, p: Expr, lane: Expr) -> Expr:
        chunk = _at_most(w // CHUNK_STEPS, chunks, words // CHUNK_STEPS)
        return weight[p, chunk, w % CHUNK_STEPS, lane]

    columns, rows = _columns(column, words, count, out_features), _whole_rows(x.codes)
    w = reduce_axis(words, "w")
    sums = te.compute(
        (rows.shape[0], columns.shape[1]),
        lambda i, j: te.sum(dot(rows[i, w], tirx.reinterpret("int32", columns[w, j])), axis=w),
        name="dot",
        attrs={PATTERN: f"dot{codes.bits}"},
    )

    def value(i: Expr, j: Expr) -> Expr:
        factor = x.scale[i, 0] * scale[j // LANES, 0, j % LANES]
        return sums[i, j].astype("float32") * factor

    return te.compute((m, int64(out_features)), value, name="out")


def tensor_int4(x: te.Tensor, out_features: int, weight: te.Tensor, scale: te.Tensor) -> te.Tensor:
    """Rows of `round_rows`, reordered, times panels -> (m, out_features) float32.

    weight is (panels, groups, 4, 16) uint32 and scale (panels, groups, 16): signed codes of 4 bits.
    """
    m, groups = x.shape[0], int(x.shape[1]) // GROUP
    count, stored = map(int, scale.shape[:2])
    words = _columns(
        lambda w, p, lane: weight[
            p, _at_most(w // CHUNK_STEPS, stored, groups), w % CHUNK_STEPS, lane
        ],
        *(groups * CHUNK_STEPS, count, out_features),
        name="words",
    )
    scales = _columns(
        lambda g, p, lane: scale[p, _at_most(g, stored, groups), lane],
        *(groups, count, out_features),
        name="scales",
    )

    def value(half: Expr, j: Expr, e: Expr) -> Expr:
        """Place e of 16 inputs, which are the lower or the upper nibbles of four words."""
        step, byte = nibble(e)
        word = words[half // 2 * CHUNK_STEPS + step, j]
        code = (word >> (byte * 8 + half % 2 * 4).astype("uint32")) & tirx.const(15, "uint32")
        signed = (code ^ tirx.const(8, "uint32")).astype("float16") - tirx.const(8, "float16")
        return signed * scales[half // 2, j]

    shape = (int64(2 * groups), words.shape[1], int64(GROUP // 2))
    columns = te.compute(shape, value, name="columns", attrs={PATTERN: "columns"})
    rows, k = _whole_rows(x), reduce_axis(GROUP * groups, "k")
    half = GROUP // 2

    def term(i: Expr, j: Expr) -> Expr:
        right = columns[k // half, j, k % half]
        return te.sum(rows[i, k].astype("float32") * right.astype("float32"), axis=k)

    product = te.compute(
        (rows.shape[0], words.shape[1]), term, name="matmul", attrs={PATTERN: "matmul"}
    )
    return te.compute((m, int64(out_features)), lambda i, j: product[i, j], name="out")


def _whole_rows(x: te.Tensor) -> te.Tensor:
    """x with its last row repeated up to whole tiles."""
    m, inputs = x.shape
    return te.compute(
        (whole_tiles(m, ROWS), inputs),
        lambda i, k: x[tirx.min(i, m - 1), k],
        name="rows",
        attrs={PATTERN: "rows"},
    )


def _columns(
    read: Callable[..., Expr],
    inputs: int,
    count: int,
    out_features: int,
    name: str = "columns",
) -> te.Tensor:
    """(inputs, columns of whole tiles): `read` at (input, panel of `count`, lane)."""
    width = round_up(out_features, COLUMNS)

    def value(k: Expr, j: Expr) -> Expr:
        return read(k, _at_most(j // LANES, count, width // LANES), j % LANES)

    shape = (int64(inputs), int64(width))
    return te.compute(shape, value, name=name, attrs={PATTERN: name})


def _at_most(index: Expr, count: int, whole: int) -> Expr:
    """The index, which is below `whole`, or the last of `count`."""
    return index if count == whole else tirx.min(index, int64(count - 1))
