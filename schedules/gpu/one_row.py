"""One row times weights (decode) on a GPU: a stream over the weights, bound by memory.

A workgroup owns a panel of 16 outputs, or a few, and reads it from front to back: neighbouring
threads take neighbouring quads of outputs, then neighbouring inputs, so that what a subgroup loads
at a time lies in one piece. Each thread adds up its own part of the inputs in registers. Then the
parts meet, in two steps. Those of one subgroup, whose threads are a quad apart, by exchanges
between lanes, as many parts as fit the narrowest subgroup that the target allows. What is left, a
number for each output and subgroup, in shared memory: there is one barrier, and then a thread per
output adds up its column. Without subgroups that is all parts.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.s_tir import Schedule

from ..choices import Choices
from ..isa.register_tiles import LANES
from ..tiling import divisors
from .limits import GpuLimits
from .threads import QUAD, bind_blocks, depth_of, halved, pick

PANELS, PARTS, UNROLL = (1, 2, 4), (4, 8, 16, 32, 64), (1, 2, 4, 8)
PARTS_OF_ONE_ROW, STEPS_UNROLLED = 32, 4
QUADS = LANES // QUAD
MEETING = (1, 2, 4, 8, 16)
"""Offered numbers of parts that meet by exchanges between lanes; 1: all meet in shared memory."""
WORTH_IT = 4
"""From so many on that is the default. With 32 parts and subgroups of 32, 8 parts meet in three
exchanges for each number of a quad, which need not wait for each other, and the thread of an output
then adds up 4 numbers one after the other instead of 32, of an eighth of the memory. Two parts,
of a subgroup of 8, would save half of that. It was reasoned so, not measured on a GPU."""


@dataclass(frozen=True)
class Parts:
    """How a workgroup divides its inputs: `high` x `low` parts, of which `low` meet by lanes."""

    panels: int
    high: int
    low: int


def pick_parts(sch: Schedule, column, reduction, limits: GpuLimits, choices: Choices) -> tuple:
    """Panels and parts of a workgroup, and the loops over inputs: rounds, straight code, parts.
    What does not divide is not offered: conditions are lost where TVM moves a block."""
    extent = int(sch.get(reduction).extent)
    panels = pick(sch, choices, "panels", divisors(sch, column, PANELS, LANES), 1)
    parts = pick(sch, choices, "parts", divisors(sch, reduction, PARTS), PARTS_OF_ONE_ROW)
    unroll = pick(sch, choices, "unroll", divisors(sch, reduction, UNROLL), STEPS_UNROLLED)
    parts = halved(parts, lambda n: n * panels * QUADS <= limits.threads)
    unroll = halved(unroll, lambda n: extent % (parts * n) == 0)
    low = min(_pick_meeting(sch, limits, choices), parts)
    return Parts(panels, parts // low, low), sch.split(reduction, [None, unroll, parts])


def _pick_meeting(sch: Schedule, limits: GpuLimits, choices: Choices) -> int:
    """Parts that meet by lanes: their quads of outputs are in one subgroup."""
    fitting = [n for n in MEETING if n == 1 or n * QUADS <= limits.subgroup]
    default = fitting[-1] if fitting[-1] >= WORTH_IT else 1
    return pick(sch, choices, "meeting", fitting, default)


def add_up_parts(sch: Schedule, block, last, part, parts: Parts):
    """Divide the reduction of `block`, loops (i, column, ..., part), into partial sums.

    Returns their block, whose loops are (workgroup, thread, i, the rest of the reduction, quad).
    """
    stages = [sch.rfactor(part, 0)]
    if parts.low > 1:
        high = sch.split(sch.get_loops(block)[-1], [None, parts.low])[0]
        stages.append(sch.rfactor(high, 0))
    workgroup, column = sch.split(sch.get_loops(last)[-1], [None, parts.panels * LANES])
    # while loops are whole: of a condition, more would seem to be needed than is
    for stage in (block, *reversed(stages)):
        sch.compute_at(stage, workgroup, preserve_unit_loops=True)
    if parts.low > 1:
        _of_a_subgroup(sch, stages[0], stages[1], workgroup, parts)
    else:
        _of_a_workgroup(sch, stages[0], workgroup, parts)
    _last_sums(sch, block, column, workgroup, parts)
    return stages[0]


def _of_a_workgroup(sch: Schedule, partial, workgroup, parts: Parts) -> None:
    """Parts into shared memory, a quad at a time."""
    panel, part, quad = _quads(sch, partial, workgroup, parts)
    y, x = sch.split(sch.fuse(panel, part, quad), [None, parts.panels * LANES])
    sch.bind(y, "threadIdx.y")
    sch.bind(x, "threadIdx.x")
    kept = sch.cache_write(partial, 0, "local")
    sch.set_scope(kept, 0, "shared")
    sch.reverse_compute_at(kept, x)
    sch.vectorize(sch.get_loops(kept)[-1])


def _of_a_subgroup(sch: Schedule, partial, met, workgroup, parts: Parts) -> None:
    """Parts stay in registers and meet there, a sum across threads for each number of a quad."""
    panel, part, quad = _quads(sch, partial, workgroup, parts)
    high, low = sch.split(part, [None, parts.low])
    _in_a_row(sch, sch.fuse(panel, high), low, quad)
    sch.set_scope(partial, 0, "local")
    high, low, i, column = sch.get_loops(met)[depth_of(sch, workgroup) :]
    panel, quad, lane = sch.split(column, [parts.panels, QUADS, QUAD])
    sch.reorder(panel, high, quad, i, lane, low)
    _in_a_row(sch, sch.fuse(panel, high), low, quad)
    sch.set_scope(met, 0, "shared")
    sch.unroll(lane)


def _quads(sch: Schedule, partial, workgroup, parts: Parts) -> tuple:
    """The loops over panels, parts and quads around the rest."""
    part, i, column, *reduction = sch.get_loops(partial)[depth_of(sch, workgroup) :]
    panel, quad, lane = sch.split(column, [parts.panels, QUADS, QUAD])
    sch.reorder(panel, part, quad, i, *reduction, lane)
    return panel, part, quad


def _in_a_row(sch: Schedule, rest, low, quad) -> None:
    """Quads of a part, the parts that meet, the rest: as the lanes of subgroups are counted."""
    for loop, axis in ((rest, "z"), (low, "y"), (quad, "x")):
        sch.bind(loop, f"threadIdx.{axis}")


def _last_sums(sch: Schedule, block, column, workgroup, parts: Parts) -> None:
    """A thread per output for the sums over parts and what follows."""
    part, *lanes = sch.get_loops(block)[depth_of(sch, workgroup) :]
    sch.reorder(*lanes, part)
    for loop in (sch.fuse(*lanes), column):
        _first_threads(sch, loop, parts)
    bind_blocks(sch, workgroup)
    sch.set_scope(block, 0, "local")
    sch.decompose_reduction(block, part)


def _first_threads(sch: Schedule, loop, parts: Parts) -> None:
    """As many of the first threads run the loop as it has outputs, the others nothing."""
    if parts.low > 1:
        loop, quad = sch.split(loop, [None, QUADS])
        loop, low = sch.split(loop, [None, parts.low])
        _in_a_row(sch, sch.split(loop, [None, parts.panels * parts.high])[1], low, quad)
    else:
        y = sch.split(sch.add_unit_loop(loop), [None, parts.high // QUADS])[1]
        sch.bind(y, "threadIdx.y")
        sch.bind(loop, "threadIdx.x")
