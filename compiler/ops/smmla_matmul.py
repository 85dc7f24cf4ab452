"""Integer matmul with SMMLA, which multiplies two rows at a time.

Rows are stored in pairs: eight inputs of one row, then eight of the other, are one operand of 16
bytes. Sums are 2 x 2 squares of two rows by two outputs; a separate stage arranges them in rows. A
single row has no partner, so its sums are kept in two halves (`halved_row`).
"""

from __future__ import annotations

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.isa.integer_isa import CHUNK_STEPS, Codes
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.rule import PATTERN

from .group_sums import group_sum
from .index_type import int64, reduce_axis
from .nibble_operands import pair_operands
from .quantized import Quantized

EIGHT, HALF = 8, 4
"""Inputs of one row per SMMLA operand, and inputs per SDOT lane."""
SQUARE = 4
"""Number of sums in a 2 x 2 square."""


def smmla_matmul(
    x: Quantized, out_features: int, codes: Codes, weight: te.Tensor, scale: te.Tensor
) -> te.Tensor:
    """Many rows -> (m, out_features) float32.

    Weights are signed, so there is no offset. weight and scale are as in integer_matmul.py, with
    a step of 8 for bytes.
    """
    rows, height = codes.tile.rows, x.height(codes.tile.rows)
    values, scales = pair_rows(x.codes, height, rows), pair_scales(x.scale, height, rows)
    if codes.bits == 4:
        product = grouped(values, scales, codes, weight, scale)
    else:
        product = by_row(values, scales, weight, scale)
    shape = (x.codes.shape[0], out_features)
    return te.compute(shape, lambda i, j: product[i, j // LANES, j % LANES], name="out")


def pair_rows(x: te.Tensor, height: Expr, rows: int) -> te.Tensor:
    """(m, depth) -> (tiles of `rows` rows, depth / 8, rows / 2, 16), so that a tile reads
    consecutive memory. Rows from m on are zero.
    """
    m, depth = x.shape
    zero = tirx.const(0, x.dtype)

    def value(t, k, i, b):
        row = t * rows + i * 2 + b // EIGHT
        return tirx.if_then_else(row < m, x[row, k * EIGHT + b % EIGHT], zero)

    shape = (height // rows, depth // EIGHT, int64(rows // 2), int64(2 * EIGHT))
    return te.compute(shape, value, name="rows", attrs={PATTERN: "rows"})


def pair_scales(scale: te.Tensor, height: Expr, rows: int) -> te.Tensor:
    """(m, groups) -> (tiles, groups, rows / 2, 4): the scales of two rows, each repeated twice to
    match a square."""
    m, groups = scale.shape
    zero = tirx.const(0, scale.dtype)

    def value(t, g, i, q):
        row = t * rows + i * 2 + q // 2
        return tirx.if_then_else(row < m, scale[row, g], zero)

    shape = (height // rows, groups, int64(rows // 2), int64(SQUARE))
    return te.compute(shape, value, name="scale_rows", attrs={PATTERN: "rows"})


def grouped(
    x: te.Tensor, x_scale: te.Tensor, codes: Codes, weight: te.Tensor, scale: te.Tensor
) -> te.Tensor:
    """4 bits: weight (panels, groups, 4, 16, 4), scale (panels, groups, 16)
    -> (height, panels, 16).
    """
    panels, groups = (int64(int(n)) for n in weight.shape[:2])
    h, v, u, e = (reduce_axis(n, name) for n, name in ((2, "h"), (2, "v"), (2, "u"), (HALF, "e")))
    operands, total = pair_operands(codes, weight), group_sum(codes)

    def term(p, g, t, i, b, q):
        value = x[t, g * 4 + h * 2 + v, i, q // 2 * EIGHT + u * HALF + e].astype("int32")
        code = operands[p, g, h, v, b * 2 + q % 2, u, e].astype("int32")
        return total(value * code, [h, v, u, e])

    tiles, _, pairs, _ = x.shape
    square = (pairs, int64(LANES // 2), int64(SQUARE))
    dot = te.compute((panels, groups, tiles, *square), term, name="dot", attrs={PATTERN: "pair4"})
    g = te.reduce_axis((int64(0), groups), "g")
    scaled = te.compute(
        (panels, tiles, *square),
        lambda p, t, i, b, q: te.sum(
            codes.sum_as_float(dot[p, g, t, i, b, q])
            * (x_scale[t, g, i, q] * scale[p, g, b * 2 + q % 2].astype("float32")),
            axis=g,
        ),
        name="scaled",
        attrs={PATTERN: "scaled"},
    )
    value = _in_rows(scaled)
    return _whole_rows(value, lambda i, p, j, value: value, "product")


def by_row(x: te.Tensor, x_scale: te.Tensor, weight: te.Tensor, scale: te.Tensor) -> te.Tensor:
    """8 bits: weight (panels, chunks, 4, 16, 8), scale (panels, 1, 16) -> (height, panels, 16)."""
    panels, chunks = (int64(int(n)) for n in weight.shape[:2])
    c = te.reduce_axis((int64(0), chunks), "c")
    v, e = reduce_axis(CHUNK_STEPS, "v"), reduce_axis(EIGHT, "e")

    def term(p, t, i, b, q):
        value = x[t, c * CHUNK_STEPS + v, i, q // 2 * EIGHT + e].astype("int32")
        return te.sum(value * weight[p, c, v, b * 2 + q % 2, e].astype("int32"), axis=[c, v, e])

    tiles, _, pairs, _ = x.shape
    shape = (panels, tiles, pairs, int64(LANES // 2), int64(SQUARE))
    value = _in_rows(te.compute(shape, term, name="dot", attrs={PATTERN: "pair8"}))

    def scaled(i, p, j, value):
        t, r = i // (pairs * 2), i % (pairs * 2)
        factor = x_scale[t, 0, r // 2, r % 2 * 2] * scale[p, 0, j]
        return value.astype("float32") * factor

    return _whole_rows(value, scaled, "scaled")


def halved_row(x: te.Tensor, weight: te.Tensor) -> te.Tensor:
    """8 bits, one row: x (1, depth) -> (panels, 1, 32), two halves of each sum."""
    panels, chunks = (int64(int(n)) for n in weight.shape[:2])
    c = te.reduce_axis((int64(0), chunks), "c")
    v, e = reduce_axis(CHUNK_STEPS, "v"), reduce_axis(HALF, "e")

    def term(p, i, q):
        k = q % 2 * HALF + e
        value = x[i, c * (CHUNK_STEPS * EIGHT) + v * EIGHT + k].astype("int32")
        return te.sum(value * weight[p, c, v, q // 2, k].astype("int32"), axis=[c, v, e])

    shape = (panels, int64(1), int64(2 * LANES))
    return te.compute(shape, term, name="dot", attrs={PATTERN: "halves8"})


def _in_rows(squares: te.Tensor) -> te.Tensor:
    """(..., pairs, 8, 4) -> (..., pairs, 2, 16): the outputs of a row become consecutive."""
    *outer, _, _ = squares.shape
    return te.compute(
        (*outer, int64(2), int64(LANES)),
        lambda p, t, i, r, j: squares[p, t, i, j // 2, r * 2 + j % 2],
        name="in_rows",
        attrs={PATTERN: "in_rows"},
    )


def _whole_rows(squares: te.Tensor, function, name: str) -> te.Tensor:
    """(panels, tiles, pairs, 2, 16) -> (height, panels, 16), with `function` applied elementwise.

    This is a separate stage: if the m result rows were read directly from the tiles, TVM could not
    prove that they are in bounds.
    """
    panels, tiles, pairs, _, _ = squares.shape

    def value(i, p, j):
        r = i % (pairs * 2)
        return function(i, p, j, squares[p, i // (pairs * 2), r // 2, r % 2, j])

    shape = (tiles * pairs * 2, panels, int64(LANES))
    return te.compute(shape, value, name=name, attrs={PATTERN: name})
