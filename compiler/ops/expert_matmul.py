"""Rows times the weights of the experts that they chose, on a CPU.

The loop nest is schedules/cpu/expert_nest.py, which a schedule may write with other register tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder

from handglass.schedules.cpu.expert_nest import (
    EXPERTS,
    SHAPE,
    ExpertBlocking,
    ExpertOperands,
    ExpertShape,
    write_tasks,
)
from handglass.schedules.isa.register_tiles import LANES, YMM
from handglass.schedules.rule import CHOSEN, MULTIPLY_ADDS, PATTERN

from .index_type import int64
from .matmul import Dequantize
from .padded import is_one_row

UNROLLED = (4, 2, 1)
"""Inputs per iteration: the largest of these that divides their number."""


def expert_matmul(
    x: te.Tensor,
    order: te.Tensor,
    starts: te.Tensor,
    parts: Sequence[te.Tensor],
    read: Callable[[Sequence[tirx.Buffer]], Dequantize],
    shape: ExpertShape,
) -> te.Tensor:
    """x (s, inputs), or (s, chosen * width) with width >= inputs -> (s, chosen * panels * 16).

    `order` and `starts` are those of routing.sorter; `parts` hold the stacked panels, and `read` of
    their buffers gives the float32 weight at (panel, input, lane).
    """
    s = x.shape[0]
    work = [int64(shape.chosen * shape.panels * LANES * shape.inputs), s]
    blocking = default_blocking(shape, is_one_row(s))

    def nest(ins: list[tirx.Buffer], outs: list[tirx.Buffer]) -> tirx.Stmt:
        x, order, starts, *parts = ins
        operands = ExpertOperands(x, order, starts, parts, outs[0], read(parts))
        with IRBuilder() as ib:
            write_tasks(shape, operands, blocking)
        return ib.get()

    return te.extern(
        (s, int64(shape.chosen * shape.panels * LANES)),
        [x, order, starts, *parts],
        nest,
        name=EXPERTS,
        dtype="float32",
        attrs={
            PATTERN: "experts",
            SHAPE: shape.numbers,
            MULTIPLY_ADDS: work,
            CHOSEN: [int64(shape.panels * shape.chosen), s],
        },
    )


def default_blocking(shape: ExpertShape, one: bool) -> ExpertBlocking:
    """One row takes several panels at once, several rows one panel."""
    columns = (4, 2, 1) if one else (1,)
    return ExpertBlocking(
        1 if one else YMM.rows,
        next(n for n in columns if shape.panels % n == 0),
        next(n for n in UNROLLED if shape.inputs % n == 0),
    )
