"""Row-wise kernels: norms, activation functions, quantisation of their results, attention within
windows of a few rows.

All stages of a row run in one iteration of one loop, so the row stays in the L1 cache. A single row
runs serially: waking the other cores costs as much as the row itself.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, blocks, find, pattern_of
from ..tiling import divisors, is_one, settled
from .elementwise import VECTORS, vectorize

PATTERNS = frozenset({"norm", "heads", "quantize", "windows"})
UNROLLS = (1, 2, 4, 8)
"""Offered unroll factors of the partial sums."""


def rows(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Merge the row loops of all stages into one.

    Several stages may be outputs, and an output cannot be computed at another one's loop.
    """
    if not any(find(sch, pattern) for pattern in PATTERNS):
        return False
    for block in blocks(sch)[:-1]:
        if pattern_of(sch, block) == "view":
            sch.compute_inline(block)
    stages = blocks(sch)
    row = sch.merge(*[sch.get_loops(block)[0] for block in stages])
    if not is_one(sch.get(row).extent):
        sch.parallel(row)
    unroll = settled(sch, choices.pick(sch, "unroll", _unrolls(sch, stages), 1))
    widest = settled(sch, choices.pick(sch, "vector", VECTORS, max(VECTORS)))
    for block in stages:
        _vectorize(sch, block, unroll, widest)
    return True


def _unrolls(sch: Schedule, stages) -> list[int]:
    """The unroll factors that divide the partial sums of every stage."""
    sums = [sch.get_loops(block)[-1] for block in stages if _has_lanes(sch, block)]
    fitting = [divisors(sch, k, UNROLLS) for k in sums]
    return [n for n in UNROLLS if all(n in fits for fits in fitting)] if sums else [1]


def _has_lanes(sch: Schedule, block) -> bool:
    """Whether the block computes partial sums: axes (row, ..., lane, k)."""
    spatial = [v.iter_type == tirx.IterVar.DataPar for v in sch.get(block).iter_vars]
    return len(spatial) > 2 and not all(spatial) and spatial[-2]


def _vectorize(sch: Schedule, block, unroll: int, widest: int) -> None:
    """Vectorise element-wise stages and partial sums per lane; other reductions stay scalar."""
    loops, axes = sch.get_loops(block), sch.get(block).iter_vars
    spatial = [axis.iter_type == tirx.IterVar.DataPar for axis in axes]
    if all(spatial):
        if len(loops) > 1:
            vectorize(sch, loops[-1], widest)
    elif _has_lanes(sch, block):
        lane, k = loops[-2:]
        sch.reorder(k, lane)
        if unroll > 1:
            k, step = sch.split(k, [None, unroll])
            sch.unroll(step)
        sch.vectorize(lane)
        sch.vectorize(sch.get_loops(sch.decompose_reduction(block, k))[-1])


OFFERS = {"unroll": UNROLLS, "vector": VECTORS}
RULE = Rule("cpu-rows", rows, PATTERNS, offers=OFFERS)
