"""Attention on a CPU: the default loop nest of schedules/cpu/attention_nest.py as an operator."""

from __future__ import annotations

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.sym import Analyzer

from handglass.schedules.cpu.attention_nest import attention_nest
from handglass.schedules.cpu.attention_shape import (
    TILING,
    Coded,
    Operands,
    Shape,
    Tiling,
    default_blocking,
)
from handglass.schedules.isa.score_products import OF_CODES, ScoreCodes
from handglass.schedules.loops import int64
from handglass.schedules.rule import MULTIPLY_ADDS, PATTERN, SEEN


def attend(
    rows: te.Tensor,
    keys: te.Tensor,
    values: te.Tensor,
    scales: tuple[te.Tensor, ...],
    tiling: Tiling,
    codes: ScoreCodes | None = None,
) -> te.Tensor:
    """rows (h_kv, tiles * tile, d) -> (queries, h_kv * group * d) float32.

    `scales` are those of int8 keys and values, (h_kv, panels, 16) each; empty for floats. With
    `codes`, rows and keys are integers (integer_attention.py) and `scales` are theirs.
    """
    h_kv, _, d = values.shape
    s, heads = tiling.queries, h_kv * tiling.group
    first, last = tiling.limit(int64(0)), tiling.limit(s - 1)
    step = Analyzer().simplify(tiling.limit(int64(1)) - first)
    attrs = {
        PATTERN: "attention",
        # Scores and mixing. The average limit is half the sum of the first and the last.
        MULTIPLY_ADDS: [heads * d, s, first + last],
        SEEN: [last, values.shape[1]],
        TILING: [tiling.tile, first, step, *([codes.name] if codes else [])],
    }
    return te.extern(
        (tiling.queries, h_kv * tiling.group * d),
        [rows, keys, values, *scales],
        lambda ins, outs: _nest(ins, outs[0], tiling, codes),
        name="attention",
        dtype="float32",
        attrs=attrs,
    )


def _nest(
    ins: list[tirx.Buffer], out: tirx.Buffer, tiling: Tiling, codes: ScoreCodes | None
) -> tirx.Stmt:
    rows, keys, values, *scales = ins
    coded = Coded(*scales) if codes else None
    operands = Operands(rows, keys, values, () if codes else tuple(scales), out, coded)
    products = OF_CODES[codes.name] if codes else None
    with IRBuilder() as builder:
        attention_nest(Shape(tiling, default_blocking(tiling, values.dtype, products), operands))
    return builder.get()
