"""One row times weights (decode) on a GPU: a stream over the weights, bound by memory.

A workgroup owns a panel of 16 outputs, or a few, and reads it from front to back: neighbouring
threads take neighbouring quads of outputs, then neighbouring inputs, so that what a subgroup loads
at a time lies in one piece. Each thread adds up its own part of the inputs in registers. The parts
meet in shared memory: there is one barrier, and then a thread per output adds up its column, as
many numbers as there are parts. A tree over subgroups would want the parts of one output side by
side, and the loads apart.
"""

from __future__ import annotations

from tvm.s_tir import Schedule

from ..choices import Choices
from ..dot import LANES, Shared
from ..tiling import divisors
from .threads import QUAD, bind_blocks, depth_of, halved, pick

PANELS, PARTS, UNROLL = (1, 2, 4), (4, 8, 16, 32, 64), (1, 2, 4, 8)
PARTS_OF_ONE_ROW, STEPS_UNROLLED = 32, 4


def pick_parts(sch: Schedule, column, reduction, shared: Shared, choices: Choices) -> tuple:
    """Panels of a workgroup, parts of its inputs, and the loops over inputs: rounds, straight code,
    parts. What does not divide is not offered: conditions are lost where TVM moves a block."""
    extent = int(sch.get(reduction).extent)
    panels = pick(sch, choices, "panels", divisors(sch, column, PANELS, LANES), 1)
    parts = pick(sch, choices, "parts", divisors(sch, reduction, PARTS), PARTS_OF_ONE_ROW)
    unroll = pick(sch, choices, "unroll", divisors(sch, reduction, UNROLL), STEPS_UNROLLED)
    parts = halved(parts, lambda n: n * panels * (LANES // QUAD) <= shared.threads)
    unroll = halved(unroll, lambda n: extent % (parts * n) == 0)
    return panels, parts, sch.split(reduction, [None, unroll, parts])


def add_up_parts(sch: Schedule, block, last, part, panels: int, parts: int):
    """Divide the reduction of `block`, loops (i, column, ..., part), into partial sums.

    Returns their block, whose loops are (workgroup, thread, i, the rest of the reduction, quad).
    """
    partial = sch.rfactor(part, 0)
    workgroup = _last_sums(sch, block, last, panels, parts)
    outer = depth_of(sch, workgroup)
    sch.compute_at(partial, workgroup, preserve_unit_loops=True)
    part, i, column, *reduction = sch.get_loops(partial)[outer:]
    panel, quad, lane = sch.split(column, [panels, LANES // QUAD, QUAD])
    sch.reorder(panel, part, quad, i, *reduction, lane)
    y, x = sch.split(sch.fuse(panel, part, quad), [None, panels * LANES])
    sch.bind(y, "threadIdx.y")
    sch.bind(x, "threadIdx.x")
    kept = sch.cache_write(partial, 0, "local")
    sch.set_scope(kept, 0, "shared")
    sch.reverse_compute_at(kept, x)
    sch.vectorize(sch.get_loops(kept)[-1])
    return partial


def _last_sums(sch: Schedule, block, last, panels: int, parts: int):
    """A thread per output for the sums over parts and what follows; the loop over workgroups."""
    workgroup, column = sch.split(sch.get_loops(last)[-1], [None, panels * LANES])
    sch.compute_at(block, workgroup, preserve_unit_loops=True)
    part, *lanes = sch.get_loops(block)[depth_of(sch, workgroup) :]
    sch.reorder(*lanes, part)
    for loop in (sch.fuse(*lanes), column):
        _first_threads(sch, loop, parts * (LANES // QUAD) // LANES)
    bind_blocks(sch, workgroup)
    sch.set_scope(block, 0, "local")
    sch.decompose_reduction(block, part)
    return workgroup


def _first_threads(sch: Schedule, loop, height: int) -> None:
    """Threads (0, x) run the loop, the other rows of threads nothing."""
    y = sch.split(sch.add_unit_loop(loop), [None, height])[1]
    sch.bind(y, "threadIdx.y")
    sch.bind(loop, "threadIdx.x")
