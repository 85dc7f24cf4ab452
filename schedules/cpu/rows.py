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
from ..tiling import is_one
from .elementwise import vectorize

PATTERNS = frozenset({"norm", "heads", "quantize", "windows"})


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
    for block in stages:
        _vectorize(sch, block)
    return True


def _vectorize(sch: Schedule, block) -> None:
    """Vectorise element-wise stages and partial sums per lane; other reductions stay scalar."""
    loops, axes = sch.get_loops(block), sch.get(block).iter_vars
    spatial = [axis.iter_type == tirx.IterVar.DataPar for axis in axes]
    if all(spatial):
        if len(loops) > 1:
            vectorize(sch, loops[-1])
    elif len(axes) > 2 and spatial[-2]:  # (row, ..., lane, k)
        lane, k = loops[-2:]
        sch.reorder(k, lane)
        sch.vectorize(lane)
        sch.vectorize(sch.get_loops(sch.decompose_reduction(block, k))[-1])


RULE = Rule("cpu-rows", rows, PATTERNS)
