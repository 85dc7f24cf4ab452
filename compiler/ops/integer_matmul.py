"""Matmul over integers: activations quantised on the fly, weights stored as 4 or 8 bits.

Both sides are scaled integers, so the sums are exact and a float appears once per group (4 bits) or
once per output (8 bits). How the integers lie, and why some are stored with a zero point, is in
schedules/isa/integer_isa.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.isa.amx_instructions import INT8
from handglass.schedules.isa.integer_isa import CHUNK_STEPS, GROUP, LANES, Codes
from handglass.schedules.rule import PATTERN

from .amx_matmul import pack_rows, sum_at, tile_sums
from .dp4a_matmul import dp4a_matmul
from .smmla_matmul import by_row, grouped, halved_row, pair_rows, pair_scales


@dataclass(frozen=True)
class Quantized:
    """Rows x (m, depth) as integers; a value is `codes * scale`.

    scale and offset are (m, depth/32) beside 4-bit weights, (m, 1) beside 8-bit ones. offset is
    what the weights' zero point contributes, to be added to the integer sum; None where there is
    none.
    """

    codes: te.Tensor
    scale: te.Tensor
    offset: te.Tensor | None

    def padded(self, height: Expr, codes: Codes) -> Quantized:
        """Whole register tiles of rows, so that the inner loops need no condition."""
        if codes.tiled:  # signed, so that there is no offset
            rows = codes.tile.rows
            return Quantized(
                _tiled(self.codes, height, rows, codes.chunk, "rows"),
                _tiled(self.scale, height, rows, 1, "scale_rows"),
                None,
            )
        offset = None if self.offset is None else _padded(self.offset, height, "offset_rows")
        return Quantized(
            _padded(self.codes, height, "rows"), _padded(self.scale, height, "scale_rows"), offset
        )


def integer_matmul(
    x: Quantized, out_features: int, codes: Codes, weight: te.Tensor, scale: te.Tensor
) -> te.Tensor:
    """(m, k) x panels -> (m, out_features) float32.

    weight (panels, chunks, 4, 16, step); scale (panels, chunks, 16) beside 4 bits, (panels, 1, 16)
    beside 8.
    """
    if codes.words:
        return dp4a_matmul(x.codes, x.scale, out_features, codes, weight, scale)
    m = x.codes.shape[0]
    one_row = isinstance(m, tirx.IntImm) and int(m) == 1
    if codes.amx and not one_row:
        return _in_tiles(x, out_features, weight, scale)
    height = m if one_row else (m + codes.tile.rows - 1) // codes.tile.rows * codes.tile.rows
    if codes.paired and not one_row:
        return _paired(x, out_features, codes, height, weight, scale)
    rows = x if one_row else x.padded(height, codes)
    sums = _sums(rows.codes, codes, weight)
    scaled = _grouped if codes.bits == 4 else _by_row
    product = scaled(sums, rows, height, scale)  # (height, panels, 16)
    return te.compute((m, out_features), lambda i, j: product[i, j // LANES, j % LANES], name="out")


Sums = Callable[..., Expr]
"""(panel, group where there are groups, row, lane) -> an integer sum."""


def _sums(x: te.Tensor, codes: Codes, weight: te.Tensor) -> Sums:
    """Products of codes, added up over a group (4 bits) or over the whole input (8 bits)."""
    if codes.paired and codes.bits != 4:
        halves = halved_row(x, weight)
        return lambda p, i, j: halves[p, i, j * 2] + halves[p, i, j * 2 + 1]
    sums = _grouped_sums(x, codes, weight) if codes.bits == 4 else _row_sums(x, codes, weight)
    return lambda *at: sums[at]


def _paired(
    x: Quantized, out_features: int, codes: Codes, height: Expr, weight: te.Tensor, scale: te.Tensor
) -> te.Tensor:
    """Many rows, two at a time; signed weights, so that there is no offset."""
    rows = codes.tile.rows
    values, scales = pair_rows(x.codes, height, rows), pair_scales(x.scale, height, rows)
    if codes.bits == 4:
        product = grouped(values, scales, codes, weight, scale)
    else:
        product = by_row(values, scales, weight, scale)
    shape = (x.codes.shape[0], out_features)
    return te.compute(shape, lambda i, j: product[i, j // LANES, j % LANES], name="out")


def _grouped_sums(x: te.Tensor, codes: Codes, weight: te.Tensor) -> te.Tensor:
    """(panels, groups, height, 16)."""
    panels, groups, height = *_static(weight, 2), _height(x)
    h, v, e = _axis(2, "h"), _axis(CHUNK_STEPS, "v"), _axis(codes.step, "e")

    def term(p, g, i, j):
        value = _at(x, i, g, GROUP, h * (GROUP // 2) + v * codes.step + e).astype("int32")
        return te.sum(
            value * codes.nibble(weight[p, g, v, j, e], h).astype("int32"), axis=[h, v, e]
        )

    shape = (panels, groups, height, _int64(LANES))
    return te.compute(shape, term, name="dot", attrs={PATTERN: "dot4"})


def _row_sums(x: te.Tensor, codes: Codes, weight: te.Tensor) -> te.Tensor:
    """(panels, height, 16)."""
    panels, chunks, height = *_static(weight, 2), _height(x)
    c = te.reduce_axis((_int64(0), chunks), "c")
    v, e = _axis(CHUNK_STEPS, "v"), _axis(codes.step, "e")

    def term(p, i, j):
        value = _at(x, i, c, codes.chunk, v * codes.step + e).astype("int32")
        return te.sum(value * weight[p, c, v, j, e].astype("int32"), axis=[c, v, e])

    shape = (panels, height, _int64(LANES))
    return te.compute(shape, term, name="dot", attrs={PATTERN: f"dot{codes.bits}"})


def _grouped(sums: Sums, x: Quantized, height: Expr, scale: te.Tensor) -> te.Tensor:
    """4 bits: the integer sums of the groups, scaled and added up in float32."""
    panels, groups = _static(scale, 2)
    g = te.reduce_axis((_int64(0), groups), "g")
    return te.compute(
        (height, panels, _int64(LANES)),
        lambda i, p, j: te.sum(
            _shifted(sums(p, g, i, j), x.offset, i, g).astype("float32")
            * (_at(x.scale, i, g, 1, 0) * scale[p, g, j].astype("float32")),
            axis=g,
        ),
        name="scaled",
        attrs={PATTERN: "scaled"},
    )


def _by_row(sums: Sums, x: Quantized, height: Expr, scale: te.Tensor) -> te.Tensor:
    """8 bits: one integer sum over the whole input, scaled once."""
    panels, _ = _static(scale, 2)
    return te.compute(
        (height, panels, _int64(LANES)),
        lambda i, p, j: (
            _shifted(sums(p, i, j), x.offset, i, 0).astype("float32")
            * (_at(x.scale, i, 0, 1, 0) * scale[p, 0, j])
        ),
        name="scaled",
        attrs={PATTERN: "scaled"},
    )


def _in_tiles(x: Quantized, out_features: int, weight: te.Tensor, scale: te.Tensor) -> te.Tensor:
    """8 bits and many rows where there are tile registers: the same sums by other means."""
    rows = pack_rows(x.codes, weight, INT8, lambda code: code)
    sums = tile_sums(rows, weight, INT8)

    def value(i: Expr, j: Expr) -> Expr:
        whole = _shifted(sum_at(sums, i, j), x.offset, i, 0)
        return whole.astype("float32") * (x.scale[i, 0] * scale[j // LANES, 0, j % LANES])

    return te.compute((x.codes.shape[0], out_features), value, name="out")


def _shifted(value: Expr, offset: te.Tensor | None, i: Expr, g: Expr | int) -> Expr:
    return value if offset is None else value + offset[i, g]


def _height(x: te.Tensor) -> Expr:
    return x.shape[0] * x.shape[2] if len(x.shape) == 4 else x.shape[0]


def _at(x: te.Tensor, i: Expr, c: Expr, size: int, k: Expr) -> Expr:
    """Input k of chunk c (of `size` inputs) of row i, tiled or not."""
    if len(x.shape) == 4:
        return x[i // x.shape[2], c, i % x.shape[2], k]
    return x[i, c * size + k]


def _tiled(x: te.Tensor, height: Expr, rows: int, size: int, name: str) -> te.Tensor:
    """(m, width) -> (tiles, width / size, rows, size): what a register tile reads lies in a row."""
    m, width = x.shape
    zero = tirx.const(0, x.dtype)

    def value(t, c, r, k):
        row = t * rows + r
        return tirx.if_then_else(row < m, x[row, c * size + k], zero)

    shape = (height // rows, width // size, _int64(rows), _int64(size))
    return te.compute(shape, value, name=name, attrs={PATTERN: "rows"})


def _padded(x: te.Tensor, height: Expr, name: str) -> te.Tensor:
    m, width = x.shape
    zero = tirx.const(0, x.dtype)
    return te.compute(
        (height, width),
        lambda i, k: tirx.if_then_else(i < m, x[i, k], zero),
        name=name,
        attrs={PATTERN: "rows"},
    )


def _int64(value: int) -> tirx.IntImm:
    """All indices in int64, as Relax's shapes are: a description must count the same way."""
    return tirx.IntImm("int64", value)


def _static(tensor: te.Tensor, count: int) -> list[tirx.IntImm]:
    return [_int64(int(extent)) for extent in tensor.shape[:count]]


def _axis(extent: int, name: str) -> tirx.IterVar:
    return te.reduce_axis((_int64(0), _int64(extent)), name)
