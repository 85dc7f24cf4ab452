"""Row-wise kernels: norms, activation functions, quantisation of their results, attention within
windows of a few rows.

All stages of a row run in one iteration of one loop, so the row stays in the L1 cache. A single row
runs serially: waking the other cores costs as much as the row itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..isa.integer_isa import AMX, find_integer_isa
from ..rule import Rule, blocks, find, pattern_of
from ..tiling import is_one, settled
from .across_lanes import is_across, reduce_across
from .elementwise import VECTORS, WIDEST, vectorize, widths_of
from .row_fetch import FirstPass
from .tasks import PER_TASK, SERIAL, in_tasks, parallel

PATTERNS = frozenset({"norm", "heads", "quantize", "windows"})
SWITCH = (0, 1)
"""No and yes: whether the next row is fetched during the first pass over a row."""
UNROLLS = (1, 2, 4, 8)
"""Offered unroll factors of the partial sums."""
CHAINS = (1, 2, 4)
"""Offered partial sums per lane: additions that do not wait for each other."""
GROUPS = (1, 2, 4)
"""Offered groups of a row, each with its own sums, that are reduced side by side."""


def rows(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Merge the row loops of all stages into one.

    Several stages may be outputs, and an output cannot be computed at another one's loop.
    """
    if not any(find(sch, pattern) for pattern in PATTERNS):
        return False
    for block in blocks(sch)[:-1]:
        if pattern_of(sch, block) == "view":
            sch.compute_inline(block)
    way = _choose(sch, blocks(sch), choices)
    summed = [b for b in blocks(sch) if _has_lanes(sch, b) and not is_across(sch, b)]
    chained = {_split_sums(sch, block, way.chains) for block in summed}
    stages = blocks(sch)
    row = sch.merge(*[sch.get_loops(block)[0] for block in stages])
    extent = sch.get(row).extent
    per_task = SERIAL if is_one(extent) else parallel(sch, row, choices, extent)
    for block in stages:
        _vectorize(sch, block, way, sch.get(block).name_hint in chained)
    if not is_one(extent):
        _fetch_next_row(sch, row, target, choices)
    in_tasks(sch, row, per_task)
    return True


@dataclass(frozen=True)
class _Way:
    """How a row is computed; each stage takes the next smaller number that divides its loop."""

    unroll: int
    chains: int
    groups: int
    widest: int


def _choose(sch: Schedule, stages, choices: Choices) -> _Way:
    sums = [sch.get_loops(block) for block in stages if _has_lanes(sch, block)]
    steps = [_extent(sch, loops[-1]) for loops in sums]
    groups = [_extent(sch, loops[-3]) for loops in sums if len(loops) > 3]
    columns = [loops[-1] for block in stages if len(loops := _columns(sch, block)) > 1]
    unrolls = [n for n in UNROLLS if any(extent % n == 0 for extent in steps)] or [1]
    # A chain that leaves each unroll factor its steps, so that no two candidates are equal.
    chains = [n for n in CHAINS if any(extent % (n * max(unrolls)) == 0 for extent in steps)]
    beside = [n for n in GROUPS if any(extent % n == 0 for extent in groups)]

    def pick(name: str, options: list[int], default: int) -> int:
        return settled(sch, choices.pick(sch, name, options, default))

    return _Way(
        unroll=pick("unroll", unrolls, 1),
        chains=pick("chains", chains, 2) if len(chains) > 1 else 1,
        groups=pick("groups", beside, 1) if len(beside) > 1 else 1,
        widest=pick("vector", widths_of(sch, columns), WIDEST),
    )


def _fetch_next_row(sch: Schedule, row, target: tvm.target.Target, choices: Choices) -> None:
    """Fetch the next row, if rows come from memory; by default where it was measured."""
    first = FirstPass.of(sch, row)
    measured = int(find_integer_isa(target) is AMX)
    if first and settled(sch, choices.pick(sch, "ahead", SWITCH, measured)):
        first.fetch_next_row(sch, row)


def _fitting(sch: Schedule, loop, most: int) -> int:
    """The largest power of two up to `most` that divides the loop."""
    return gcd(_extent(sch, loop), most)


def _extent(sch: Schedule, loop) -> int:
    return int(sch.get(loop).extent)


def _has_lanes(sch: Schedule, block) -> bool:
    """Whether the block computes partial sums: axes (row, ..., lane, k)."""
    spatial = _spatial(sch, block)
    return len(spatial) > 2 and not all(spatial) and spatial[-2]


def _columns(sch: Schedule, block) -> list:
    """The loops of an element-wise stage."""
    return sch.get_loops(block) if all(_spatial(sch, block)) else []


def _spatial(sch: Schedule, block) -> list[bool]:
    return [axis.iter_type == tirx.IterVar.DataPar for axis in sch.get(block).iter_vars]


def _split_sums(sch: Schedule, block, chains: int) -> str:
    """Let each partial sum of the block be the sum of `chains` others, of a stage before it.

    Returns the name of the stage, whose last loop is over the chains; "" if there is one chain.
    """
    k = sch.get_loops(block)[-1]
    if (chains := _fitting(sch, k, chains)) == 1:
        return ""
    partial = sch.rfactor(sch.split(k, [None, chains])[1], 0)
    return str(sch.get(partial).name_hint)


def _vectorize(sch: Schedule, block, way: _Way, is_chained: bool) -> None:
    """Vectorise element-wise stages and partial sums per lane; other reductions stay scalar."""
    loops = sch.get_loops(block)
    if is_across(sch, block) and len(loops) > 2:
        reduce_across(sch, block)
    elif _columns(sch, block):
        if len(loops) > 1:
            vectorize(sch, loops[-1], way.widest)
    elif _has_lanes(sch, block):
        chain = [loops.pop()] if is_chained else []
        _reduce(sch, block, loops, chain, way)


def _reduce(sch: Schedule, block, loops, chain, way: _Way) -> None:
    """Compute partial sums: `loops` are (row, ..., lane, k), `chain` those within a step."""
    *outer, lane, k = loops
    groups = _fitting(sch, outer[-1], way.groups) if len(outer) > 1 else 1
    beside = [sch.split(outer[-1], [None, groups])[1]] if groups > 1 else []
    unroll = _fitting(sch, k, way.unroll)
    k, *steps = sch.split(k, [None, unroll]) if unroll > 1 else [k]
    sch.reorder(k, *steps, *chain, *beside, lane)
    for loop in (*steps, *chain, *beside):
        sch.unroll(loop)
    sch.vectorize(lane)
    sch.vectorize(sch.get_loops(sch.decompose_reduction(block, k))[-1])


OFFERS = {
    "unroll": UNROLLS,
    "chains": CHAINS,
    "groups": GROUPS,
    "vector": VECTORS,
    "ahead": SWITCH,
    "per_task": PER_TASK,
}
RULE = Rule("cpu-rows", rows, PATTERNS, offers=OFFERS)
