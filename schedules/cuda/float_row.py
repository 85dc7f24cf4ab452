"""One row times float weights (decode) on an NVIDIA GPU: a stream over the weights.

The kernel of all GPUs loads four weights at a time, 64 bits of float16, and one number of the row.
Here each load has 128 bits (float_row_functions.py), and many warps of a workgroup read two to
eight panels, so that enough bytes are in flight. The row is read once per workgroup; sums are
float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import tvm
from tvm import ir, tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from ..choices import DEFAULTS, Choices
from ..gpu.limits import gpu_limits
from ..gpu.padded_row import FLOATS
from ..gpu.threads import pick
from ..isa.register_tiles import LANES
from ..rule import Rule, find
from ..tiling import inline_epilogue
from . import row_by_warps
from .copies import copied
from .float_row_functions import FLOAT_ROW
from .fragments import WARP
from .row_by_warps import by_warps, pick_reading

PANELS = (2, 4, 8)
"""Offered panels of a workgroup, which share the row."""
ADJACENT_INPUTS = 4
"""Inputs of a lane whose activations it loads at once."""


@dataclass(frozen=True)
class Reading(row_by_warps.Reading):
    """How the warps of a workgroup read float weights, in groups of inputs that fill a warp."""

    panels: int = PANELS[0]
    of_a_group: ClassVar[int] = 20
    others: ClassVar[int] = 32

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.panels, *super().numbers


@dataclass(frozen=True)
class Operands:
    """The arguments that the kernel reads."""

    x: tirx.Buffer
    weight: tirx.Buffer
    """(panels, inputs, 16) of float32, float16 or the bits of bfloat16."""

    def groups(self, panels: int) -> int:
        """Groups of inputs that a warp reads at once."""
        inputs = WARP // panels * copied(str(self.weight.dtype)) // LANES
        return -(-int(self.x.shape[1]) // (ADJACENT_INPUTS * inputs))

    def call(self, reading: Reading, sums: tirx.Buffer, part: ir.Expr, column: ir.Expr) -> ir.Expr:
        """Compute the sums of a part of the inputs, for the outputs from `column` on."""
        return T.cuda.func_call(
            f"{FLOAT_ROW.name}<{', '.join(str(int(n)) for n in reading.numbers)}>",
            sums.access_ptr("w"),
            *(buffer.access_ptr("r") for buffer in (self.x, self.weight)),
            *(T.Cast("int32", column // LANES), int(self.weight.shape[0])),
            *(T.Cast("int32", part), reading.parts, int(self.x.shape[1])),
            source_code=FLOAT_ROW.code,
        )


def float_row(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule one row times float panels, with its epilogue; returns False for anything else."""
    products, floats = find(sch, "matmul"), find(sch, FLOATS)
    if len(products) != 1 or len(floats) != 1:
        return False
    (rows,) = find(sch, "rows")
    sources = [region.source for stage in (rows, floats[0]) for region in sch.get(stage).reads]
    for stage in (rows, floats[0]):
        sch.compute_inline(stage)
    operands = Operands(*sources)
    last = inline_epilogue(sch, products[0])
    panels = pick(sch, choices, "panels", PANELS, PANELS[0])
    threads, groups = gpu_limits(target).threads, operands.groups(panels)
    reading = Reading(
        *pick_reading(sch, groups, threads, choices, unroll=1), panels=panels
    ).fitted()
    columns = LANES * panels
    by_warps(sch, products[0], last, reading.parts, columns, partial(operands.call, reading))
    return True


OFFERS: Mapping[str, Sequence[int]] = {"panels": PANELS, **row_by_warps.OFFERS}
RULE = Rule("cuda-float-row", float_row, frozenset({"matmul"}), offers=OFFERS)
