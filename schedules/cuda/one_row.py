"""One row times 4-bit weights (decode) on an NVIDIA GPU: a stream over the weights.

Scalar code takes three instructions per weight: to extract a code, to convert it, to multiply. Here
two instructions extract and convert two codes, and tensor cores multiply them
(one_row_functions.py). A workgroup owns eight panels of 16 outputs, which each of its warps reads
in 128-bit loads, every `parts`-th group of 32 inputs or adjacent ones (row_by_warps.py). The row is
read once per workgroup.

The row stays float32 but for its last two bits, and 65,536 is the largest number that it may have;
sums are float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import tvm
from tvm import ir, tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from ..choices import DEFAULTS, Choices
from ..gpu.limits import gpu_limits
from ..gpu.padded_row import CODES, COLUMNS
from ..isa.register_tiles import LANES
from ..rule import Rule, find
from ..tiling import inline_epilogue
from . import row_by_warps
from .one_row_functions import INT4_ROW
from .row_by_warps import by_warps, pick_reading


@dataclass(frozen=True)
class Reading(row_by_warps.Reading):
    """How the warps of a workgroup read 4-bit weights, in groups of 32 inputs."""

    of_a_group: ClassVar[int] = 19
    others: ClassVar[int] = 44


@dataclass(frozen=True)
class Operands:
    """The arguments that the kernel reads."""

    x: tirx.Buffer
    weight: tirx.Buffer
    """(panels, inputs / 2, 4) words: four outputs of an input and of the one 16 further on."""
    scale: tirx.Buffer

    @property
    def groups(self) -> int:
        return int(self.scale.shape[1])

    def call(self, reading: Reading, sums: tirx.Buffer, part: ir.Expr, column: ir.Expr) -> ir.Expr:
        """Compute the sums of a part of the inputs, for the outputs from `column` on."""
        return T.cuda.func_call(
            f"{INT4_ROW.name}<{', '.join(str(int(n)) for n in reading.numbers)}>",
            sums.access_ptr("w"),
            *(buffer.access_ptr("r") for buffer in (self.x, self.weight, self.scale)),
            *(T.Cast("int32", column // LANES), int(self.scale.shape[0])),
            *(T.Cast("int32", part), reading.parts, self.groups, int(self.x.shape[1])),
            source_code=INT4_ROW.code,
        )


def one_row(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule one row times 4-bit panels, with its epilogue; returns False for anything else."""
    products, codes = find(sch, "matmul"), find(sch, CODES)
    if len(products) != 1 or len(codes) != 1:
        return False
    operands = _take_operands(sch, codes[0])
    last = inline_epilogue(sch, products[0])
    threads = gpu_limits(target).threads
    reading = Reading(*pick_reading(sch, operands.groups, threads, choices, unroll=1)).fitted()
    call = partial(operands.call, reading)
    by_warps(sch, products[0], last, reading.parts, COLUMNS, call)
    return True


def _take_operands(sch: Schedule, codes) -> Operands:
    """Inline the stages that read the arguments, and return these."""
    (rows,) = find(sch, "rows")
    sources = [region.source for stage in (rows, codes) for region in sch.get(stage).reads]
    for stage in (rows, codes):
        sch.compute_inline(stage)
    return Operands(*sources)


OFFERS = row_by_warps.OFFERS
RULE = Rule("cuda-one-row", one_row, frozenset({"matmul"}), offers=OFFERS)
