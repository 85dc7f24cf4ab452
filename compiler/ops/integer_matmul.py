"""Integer matmul on a CPU: activations quantized on the fly, weights of 4 or 8 bits.

Both operands are scaled integers, so sums are exact and are converted to float once per group (4
bits) or once per output (8 bits). schedules/isa/integer_isa.py describes the layout and the zero
point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.isa.integer_isa import CHUNK_STEPS, GROUP, Codes
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.rule import PATTERN

from .group_sums import group_sum
from .index_type import int64, reduce_axis, static_extents
from .nibble_operands import dot_operands
from .padded import is_one_row
from .quantized import Quantized
from .smmla_matmul import halved_row


def dot_matmul(
    x: Quantized, out_features: int, codes: Codes, weight: te.Tensor, scale: te.Tensor
) -> te.Tensor:
    """(m, k) times panels -> (m, out_features) float32, for one row or many.

    weight is (panels, chunks, 4, 16, step), scale (panels, chunks, 16) for 4 bits and
    (panels, 1, 16) for 8 bits.
    """
    rows = x if is_one_row(x.codes.shape[0]) else _whole_tiles(x, x.height(codes.tile.rows))
    unpacked = codes.fills_registers and not is_one_row(x.codes.shape[0])
    sums = (_sums_of_operands if unpacked else _sums)(rows.codes, codes, weight)
    return _scaled(x, sums, rows, out_features, codes, scale)


def tiled_dot_matmul(
    x: Quantized, out_features: int, codes: Codes, weight: te.Tensor, scale: te.Tensor
) -> te.Tensor:
    """`dot_matmul` for many rows in tiled order: 32 inputs of each row of a tile are consecutive.
    For signed weights, which need no offset."""
    rows, height = codes.tile.rows, x.height(codes.tile.rows)
    tiled = Quantized(
        _tiled(x.codes, height, rows, codes.chunk, "rows"),
        _tiled(x.scale, height, rows, 1, "scale_rows"),
    )
    if codes.bits == 4:
        sums = _sums_of_operands(tiled.codes, codes, weight)
    else:
        sums = _sums(tiled.codes, codes, weight)
    return _scaled(x, sums, tiled, out_features, codes, scale)


def halves_matmul(
    x: Quantized, out_features: int, codes: Codes, weight: te.Tensor, scale: te.Tensor
) -> te.Tensor:
    """`dot_matmul` for one row and bytes in groups of eight, the layout of SMMLA for many rows."""
    halves = halved_row(x.codes, weight)
    sums = lambda p, i, j: halves[p, i, j * 2] + halves[p, i, j * 2 + 1]  # noqa: E731
    return _scaled(x, sums, x, out_features, codes, scale)


Sums = Callable[..., Expr]
"""(panel, group (4 bits only), row, lane) -> an integer sum."""


def _sums(x: te.Tensor, codes: Codes, weight: te.Tensor) -> Sums:
    """Dot products of codes over a group (4 bits) or over the whole input (8 bits)."""
    sums = _grouped_sums(x, codes, weight) if codes.bits == 4 else _row_sums(x, codes, weight)
    return lambda *at: sums[at]


def _scaled(
    x: Quantized, sums: Sums, rows: Quantized, out_features: int, codes: Codes, scale: te.Tensor
) -> te.Tensor:
    """The scaled sums of x, (m, out_features) float32; `rows` is x padded to register tiles."""
    height = x.height(codes.tile.rows)
    if codes.bits == 4:
        product = _grouped(sums, rows, height, codes, scale)  # (height, panels, 16)
    else:
        product = _by_row(sums, rows, height, scale)
    shape = (x.codes.shape[0], out_features)
    return te.compute(shape, lambda i, j: product[i, j // LANES, j % LANES], name="out")


def _grouped_sums(x: te.Tensor, codes: Codes, weight: te.Tensor) -> te.Tensor:
    """(panels, groups, height, 16)."""
    code = lambda p, g, h, v, j, e: codes.nibble(weight[p, g, v, j, e], h)  # noqa: E731
    return _sums_of_codes(x, codes, static_extents(weight, 2), code)


def _sums_of_operands(x: te.Tensor, codes: Codes, weight: te.Tensor) -> Sums:
    """`_grouped_sums` with the nibbles unpacked in a stage of their own."""
    operands = dot_operands(codes, weight)
    code = lambda *at: operands[at]  # noqa: E731
    sums = _sums_of_codes(x, codes, static_extents(weight, 2), code)
    return lambda *at: sums[at]


def _sums_of_codes(
    x: te.Tensor, codes: Codes, extents: Sequence[Expr], code: Callable[..., Expr]
) -> te.Tensor:
    """`code` at (panel, group, half of the group, step, output, input of the step)."""
    h, v, e = reduce_axis(2, "h"), reduce_axis(CHUNK_STEPS, "v"), reduce_axis(codes.step, "e")
    total = group_sum(codes)

    def term(p, g, i, j):
        value = _at(x, i, g, GROUP, h * (GROUP // 2) + v * codes.step + e).astype("int32")
        return total(value * code(p, g, h, v, j, e).astype("int32"), [h, v, e])

    shape = (*extents, _height(x), int64(LANES))
    return te.compute(shape, term, name="dot", attrs={PATTERN: "dot4"})


def _row_sums(x: te.Tensor, codes: Codes, weight: te.Tensor) -> te.Tensor:
    """(panels, height, 16)."""
    panels, chunks, height = *static_extents(weight, 2), _height(x)
    c = te.reduce_axis((int64(0), chunks), "c")
    v, e = reduce_axis(CHUNK_STEPS, "v"), reduce_axis(codes.step, "e")

    def term(p, i, j):
        value = _at(x, i, c, codes.chunk, v * codes.step + e).astype("int32")
        return te.sum(value * weight[p, c, v, j, e].astype("int32"), axis=[c, v, e])

    shape = (panels, height, int64(LANES))
    return te.compute(shape, term, name="dot", attrs={PATTERN: f"dot{codes.bits}"})


def _grouped(sums: Sums, x: Quantized, height: Expr, codes: Codes, scale: te.Tensor) -> te.Tensor:
    """4 bits: integer sums per group, scaled and accumulated in float32."""
    panels, groups = static_extents(scale, 2)
    g = te.reduce_axis((int64(0), groups), "g")

    def value(i, p, j):
        total = codes.sum_as_float(x.shifted(sums(p, g, i, j), i, g))
        of_row, of_output = _at(x.scale, i, g, 1, 0), scale[p, g, j].astype("float32")
        if codes.fills_registers:  # each sum is scaled in its own register
            return te.sum(total * of_row * of_output, axis=g)
        return te.sum(total * (of_row * of_output), axis=g)

    shape = (height, panels, int64(LANES))
    return te.compute(shape, value, name="scaled", attrs={PATTERN: "scaled"})


def _by_row(sums: Sums, x: Quantized, height: Expr, scale: te.Tensor) -> te.Tensor:
    """8 bits: one integer sum over the whole input, scaled once."""
    panels, _ = static_extents(scale, 2)
    return te.compute(
        (height, panels, int64(LANES)),
        lambda i, p, j: (
            x.shifted(sums(p, i, j), i, 0).astype("float32")
            * (_at(x.scale, i, 0, 1, 0) * scale[p, 0, j])
        ),
        name="scaled",
        attrs={PATTERN: "scaled"},
    )


def _height(x: te.Tensor) -> Expr:
    return x.shape[0] * x.shape[2] if len(x.shape) == 4 else x.shape[0]


def _at(x: te.Tensor, i: Expr, c: Expr, size: int, k: Expr) -> Expr:
    """Input k of chunk c (of `size` inputs) of row i, tiled or not."""
    if len(x.shape) == 4:
        return x[i // x.shape[2], c, i % x.shape[2], k]
    return x[i, c * size + k]


def _tiled(x: te.Tensor, height: Expr, rows: int, size: int, name: str) -> te.Tensor:
    """(m, width) -> (tiles, width / size, rows, size), so that a register tile reads consecutive
    memory. Padding is zero."""
    m, width = x.shape
    zero = tirx.const(0, x.dtype)

    def value(t, c, r, k):
        row = t * rows + r
        return tirx.if_then_else(row < m, x[row, c * size + k], zero)

    shape = (height // rows, width // size, int64(rows), int64(size))
    return te.compute(shape, value, name=name, attrs={PATTERN: "rows"})


def _whole_tiles(x: Quantized, height: Expr) -> Quantized:
    """Pad the rows to whole register tiles, so that the inner loops need no condition."""
    offset = None if x.offset is None else _padded(x.offset, height, "offset_rows")
    return Quantized(
        _padded(x.codes, height, "rows"), _padded(x.scale, height, "scale_rows"), offset
    )


def _padded(x: te.Tensor, height: Expr, name: str) -> te.Tensor:
    m, width = x.shape
    zero = tirx.const(0, x.dtype)
    return te.compute(
        (height, width),
        lambda i, k: tirx.if_then_else(i < m, x[i, k], zero),
        name=name,
        attrs={PATTERN: "rows"},
    )
