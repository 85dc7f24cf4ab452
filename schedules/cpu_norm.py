"""RMSNorm and LayerNorm: one task per row, lanes as vectors; one row runs serially.

A parallel region costs about as much as the norm of one row, so a decode step stays on one core.
"""

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from .cpu_elementwise import vectorize
from .rule import Rule, blocks, find


def norm(sch: Schedule, target: tvm.target.Target, tunable: bool = False) -> bool:
    """All stages of a row are computed inside that row's iteration of the last stage."""
    stages = find(sch, "norm")
    if not stages:
        return False
    everything = blocks(sch)
    names = [sch.get(b).name_hint for b in everything]
    for extra in everything[names.index(sch.get(stages[-1]).name_hint) : -1]:
        sch.compute_inline(extra)
    last = everything[-1]
    row = sch.get_loops(last)[0]
    if not _is_one(sch.get(row).extent):
        sch.parallel(row)
    producers = [b for b in stages if sch.get(b).name_hint != sch.get(last).name_hint]
    vectorize(sch, sch.get_loops(last)[-1])
    for block in reversed(producers):
        sch.compute_at(block, row, preserve_unit_loops=True)
        _schedule_stage(sch, block)
    return True


def _is_one(extent) -> bool:
    return isinstance(extent, tirx.IntImm) and int(extent) == 1


def _schedule_stage(sch: Schedule, block) -> None:
    """Partial sums: the lane loop innermost and in vector registers."""
    loops = sch.get_loops(block)
    kinds = [int(v.iter_type) for v in sch.get(block).iter_vars]
    if kinds != [0, 0, 2]:  # (row, lane, reduction); other stages are a handful of scalars
        return
    lane, k = loops[-2:]
    sch.reorder(k, lane)
    sch.vectorize(lane)
    init = sch.decompose_reduction(block, k)
    sch.vectorize(sch.get_loops(init)[-1])


RULE = Rule("cpu-norm", norm, frozenset({"norm"}))
