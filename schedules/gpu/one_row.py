"""One row times weights (decode) on a GPU: a stream over the weights, bound by memory bandwidth.

A workgroup owns one or a few panels of 16 outputs and reads them from front to back. Adjacent
threads take adjacent quads of outputs, then adjacent inputs, so that each load of a subgroup is
contiguous. Each thread accumulates its part of the inputs in registers. The parts are then reduced
in two steps. The parts of one subgroup, whose threads are a quad apart, are reduced by exchanges
between lanes; as many take part as fit the narrowest subgroup that the target allows. The rest, one
number per output and subgroup, is reduced in shared memory: after one barrier, a thread per output
adds up its column. Without subgroups, all parts are reduced in shared memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from tvm import DataType
from tvm.s_tir import Schedule

from ..choices import Choices
from ..isa.register_tiles import LANES
from ..tiling import divisors
from .limits import GpuLimits
from .threads import QUAD, WORD, bind_blocks, depth_of, halved, pick, share, vectorize_quads

PANELS, UNROLL = (1, 2, 4), (1, 2, 3, 4, 5, 8)
PARTS = (4, 8, 12, 16, 20, 28, 32, 36, 64)
"""Offered numbers of parts, for inputs of many sizes: 180 groups of 32 are divisible by 4, but not
by 8."""
PARTS_OF_ONE_ROW, STEPS_UNROLLED = 32, 4
PARTS_OF_SUBGROUPS = 8
"""Parts of a panel that fill subgroups of 32 threads: a multiple of them is the default."""
QUADS = LANES // QUAD
OUTPUTS = (QUAD, 2 * QUAD)
"""Offered numbers of outputs of a thread."""
STAGED = (0, 1)
"""Whether the row is first copied to shared memory."""
ADJACENT = (0, 1)
"""Whether the inputs of unrolled steps are adjacent; else those of adjacent threads are."""
MEETING = (1, 2, 4, 8, 16)
"""Offered numbers of parts reduced by exchanges between lanes; 1: all in shared memory."""
OFFERS = {
    "panels": PANELS,
    "parts": PARTS,
    "meeting": MEETING,
    "unroll": UNROLL,
    "adjacent": ADJACENT,
    "outputs": OUTPUTS,
    "staged": STAGED,
}
"""The choices of one row."""
WORTH_IT = 4
"""From this number of parts on, the reduction by exchanges between lanes is the default.

With 32 parts and subgroups of 32 threads, 8 parts are reduced in three exchanges for each number of
a quad; these are independent of each other. The thread of an output then adds up 4 numbers in
sequence instead of 32, and shared memory shrinks to an eighth. Two parts, in a subgroup of 8, would
halve the sequence and the memory. This is an estimate, not measured on a GPU.
"""


@dataclass(frozen=True)
class Parts:
    """How a workgroup splits its inputs: `high` x `low` parts, `low` of them reduced by lanes."""

    panels: int
    high: int
    low: int
    outputs: int
    """Outputs of a thread."""

    @property
    def quads(self) -> int:
        """Threads that share a part of the inputs of a panel."""
        return LANES // self.outputs

    @property
    def threads(self) -> tuple[int, ...]:
        """Extents of (z, y, x), or of (y, x) without exchanges between lanes."""
        if self.low > 1:
            return self.panels * self.high, self.low, self.quads
        return self.high // self.outputs, self.panels * LANES


def pick_parts(sch: Schedule, column, reduction, limits: GpuLimits, choices: Choices) -> tuple:
    """Pick panels and parts of a workgroup, and split the reduction: (rounds, unrolled, parts).

    Every output has a thread that adds up its parts, so there are as many as a thread has outputs.

    Only divisors are offered: TVM loses predicates when it moves a block.
    """
    extent = int(sch.get(reduction).extent)
    panels = pick(sch, choices, "panels", divisors(sch, column, PANELS, LANES), 1)
    offered = divisors(sch, reduction, PARTS)
    parts = pick(sch, choices, "parts", offered, _default_parts(offered))
    unroll = pick(sch, choices, "unroll", divisors(sch, reduction, UNROLL), STEPS_UNROLLED)
    fitting = [n for n in offered if n <= parts and n * panels * QUADS <= limits.threads]
    parts = max(fitting, default=offered[0])
    unroll = halved(unroll, lambda n: extent % (parts * n) == 0)
    low = gcd(_pick_meeting(sch, limits, choices), parts)
    outputs = gcd(pick(sch, choices, "outputs", OUTPUTS, QUAD), parts)
    if pick(sch, choices, "adjacent", ADJACENT, 0):
        rounds, part, step = sch.split(reduction, [None, parts, unroll])
        sch.reorder(step, part)
    else:
        rounds, step, part = sch.split(reduction, [None, unroll, parts])
    return Parts(panels, parts // low, low, outputs), (rounds, step, part)


def _default_parts(offered: Sequence[int]) -> int:
    usual = [n for n in offered if n <= PARTS_OF_ONE_ROW]
    return max([n for n in usual if n % PARTS_OF_SUBGROUPS == 0] or usual)


def _pick_meeting(sch: Schedule, limits: GpuLimits, choices: Choices) -> int:
    """Pick the number of parts reduced by lanes: their quads of outputs share a subgroup."""
    fitting = [n for n in MEETING if n == 1 or n * QUADS <= limits.subgroup]
    default = fitting[-1] if fitting[-1] >= WORTH_IT else 1
    return pick(sch, choices, "meeting", fitting, default)


def pick_staged(sch: Schedule, row, limits: GpuLimits, choices: Choices) -> bool:
    """Pick whether the row is first copied to shared memory, if there is room beside the sums.

    If it is not, its stage is inlined.
    """
    stored = sch.get(row).writes[0].source
    row_bytes = DataType(stored.dtype).itemsize * int(stored.shape[-1])
    fits = row_bytes + limits.threads * QUAD * WORD <= limits.memory
    if pick(sch, choices, "staged", STAGED if fits else STAGED[:1], 0):
        return True
    sch.compute_inline(row)
    return False


def share_row(sch: Schedule, row, partial, parts: Parts) -> None:
    """Copy the row to shared memory in each workgroup, after the block of partial sums is done."""
    bound = (loop for loop in sch.get_loops(partial) if sch.get(loop).thread_binding is not None)
    share(sch, row, next(bound), parts.threads)


def add_up_parts(sch: Schedule, block, last, part, parts: Parts):
    """Split the reduction of `block`, with loops (i, column, ..., part), into partial sums.

    Returns the block of partial sums: (workgroup, thread, i, rest of the reduction, lane of quad).
    """
    stages = [sch.rfactor(part, 0)]
    if parts.low > 1:
        high = sch.split(sch.get_loops(block)[-1], [None, parts.low])[0]
        stages.append(sch.rfactor(high, 0))
    workgroup, column = sch.split(sch.get_loops(last)[-1], [None, parts.panels * LANES])
    # Before any split leaves a predicate, from which TVM would infer too large a region.
    for stage in (block, *reversed(stages)):
        sch.compute_at(stage, workgroup, preserve_unit_loops=True)
    if parts.low > 1:
        _of_a_subgroup(sch, stages[0], stages[1], workgroup, parts)
    else:
        _of_a_workgroup(sch, stages[0], workgroup, parts)
    _last_sums(sch, block, column, workgroup, parts)
    return stages[0]


def _of_a_workgroup(sch: Schedule, partial, workgroup, parts: Parts) -> None:
    """Write the parts to shared memory, a quad at a time.

    Adjacent parts of a panel are adjacent in memory. If a row of threads has no whole number of
    panels, nor a panel of rows, the panels are inside instead: TVM could not follow the indices.
    """
    panel, part, quad = _quads(sch, partial, workgroup, parts)
    short, long = sorted((parts.high * parts.quads, parts.panels * LANES))
    outside = [panel, part] if long % short == 0 else [part, panel]
    sch.reorder(*outside)
    y, x = sch.split(sch.fuse(*outside, quad), [None, parts.panels * LANES])
    sch.bind(y, "threadIdx.y")
    sch.bind(x, "threadIdx.x")
    kept = sch.cache_write(partial, 0, "local")
    sch.set_scope(kept, 0, "shared")
    sch.reverse_compute_at(kept, x)
    vectorize_quads(sch, sch.get_loops(kept)[-1])


def _of_a_subgroup(sch: Schedule, partial, reduced, workgroup, parts: Parts) -> None:
    """Reduce the parts from registers, with one cross-thread sum per number of a quad."""
    panel, part, quad = _quads(sch, partial, workgroup, parts)
    high, low = sch.split(part, [None, parts.low])
    _in_a_row(sch, sch.fuse(panel, high), low, quad)
    sch.set_scope(partial, 0, "local")
    high, low, i, column = sch.get_loops(reduced)[depth_of(sch, workgroup) :]
    panel, quad, lane = sch.split(column, [parts.panels, parts.quads, parts.outputs])
    sch.reorder(panel, high, quad, i, lane, low)
    _in_a_row(sch, sch.fuse(panel, high), low, quad)
    sch.set_scope(reduced, 0, "shared")
    sch.unroll(lane)


def _quads(sch: Schedule, partial, workgroup, parts: Parts) -> tuple:
    """Reorder and return the loops over panels, parts and quads, outside the others."""
    part, i, column, *reduction = sch.get_loops(partial)[depth_of(sch, workgroup) :]
    panel, quad, lane = sch.split(column, [parts.panels, parts.quads, parts.outputs])
    sch.reorder(panel, part, quad, i, *reduction, lane)
    return panel, part, quad


def _in_a_row(sch: Schedule, rest, low, quad) -> None:
    """Bind loops in the order in which lanes are numbered: quads, parts to reduce, the rest."""
    for loop, axis in ((rest, "z"), (low, "y"), (quad, "x")):
        sch.bind(loop, f"threadIdx.{axis}")


def _last_sums(sch: Schedule, block, column, workgroup, parts: Parts) -> None:
    """One thread per output reduces the remaining parts and runs the epilogue."""
    part, *lanes = sch.get_loops(block)[depth_of(sch, workgroup) :]
    sch.reorder(*lanes, part)
    for loop in (sch.fuse(*lanes), column):
        _first_threads(sch, loop, parts)
    bind_blocks(sch, workgroup)
    sch.set_scope(block, 0, "local")
    sch.decompose_reduction(block, part)


def _first_threads(sch: Schedule, loop, parts: Parts) -> None:
    """Bind the loop to as many leading threads as it has outputs; the others are idle."""
    if parts.low > 1:
        loop, quad = sch.split(loop, [None, parts.quads])
        loop, low = sch.split(loop, [None, parts.low])
        _in_a_row(sch, sch.split(loop, [None, parts.panels * parts.high])[1], low, quad)
    else:
        y = sch.split(sch.add_unit_loop(loop), [None, parts.high // parts.outputs])[1]
        sch.bind(y, "threadIdx.y")
        sch.bind(loop, "threadIdx.x")
