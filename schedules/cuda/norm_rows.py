"""Norms whose results are quantized in groups, on an NVIDIA GPU: a row stays in registers.

The kernel of all GPUs (`gpu/rows.py`) reads a row again in each stage, an element at a time. Here a
thread loads its elements of the row and of the norm's weight once, four at a time, and has them for
every stage: the sum over the row, the peak of a group of 32, the codes. The threads of a group are
adjacent lanes. A residual is added by the matmul before, as its sum is also read by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..gpu.grid import extent_of, inline_views, spatial_loops
from ..gpu.limits import gpu_limits
from ..gpu.threads import QUAD, pick
from ..isa.integer_isa import GROUP
from ..rule import Rule, blocks, find
from .fragments import WARP

MEMBERS = (2, 4, 8)
"""Offered threads of a group: 16, 8 or 4 elements each."""
WIDTHS = (1, 2, 4)
"""Offered adjacent elements that a thread loads at once."""
KEPT = (NOTHING, ROW, BOTH) = (0, 1, 2)
"""What stays in registers: nothing, so that each stage loads it; the row; the weight, too."""
PLACES = (FIRST, LAST) = (0, 1)
"""Whether the weight is loaded together with the row, or after the sum over the row."""
EARLIEST, LATEST = -2, -1
"""TVM's indices of the first and last places in a loop where a stage may be computed."""


def norm_rows(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule a norm with one sum over the row, and the codes of its results.

    Returns False for anything else: other norms, codes with one scale per row, and rows that are
    not whole groups and warps or exceed a workgroup.
    """
    if not (find(sch, "norm") and find(sch, "quantize")):
        return False
    inline_views(sch)
    groups = _groups_of(sch)
    threads = gpu_limits(target).threads
    fitting = [n for n in MEMBERS if n * groups <= threads and n * groups % WARP == 0]
    if groups == 0 or not fitting:
        return False
    members = pick(sch, choices, "members", fitting, MEMBERS[-1])
    width = pick(sch, choices, "width", WIDTHS, QUAD)
    kept = pick(sch, choices, "kept", KEPT, BOTH)
    place = pick(sch, choices, "place", PLACES, FIRST)
    unroll = sch.unroll if pick(sch, choices, "unroll", (0, 1), 1) else lambda loop: None
    total, peak, codes, scale = blocks(sch)
    copies = [_keep(sch, [total, peak, codes])] if kept else []
    if kept == BOTH:
        copies += [_keep(sch, [peak, codes]) for _ in range(len(_arguments(sch, peak)))]
    row = sch.merge(*[sch.get_loops(stage)[0] for stage in (total, peak, codes, scale)])
    sch.bind(row, "blockIdx.x")
    for number, copy in enumerate(copies):
        index = EARLIEST if number == 0 or place == FIRST else LATEST
        sch.compute_at(copy, row, preserve_unit_loops=True, index=index)
        quad, lane = sch.split(_elements(sch, copy, groups, members), [None, width])
        sch.unroll(quad)
        sch.vectorize(lane)
    for stage in (total, codes):
        unroll(_elements(sch, stage, groups, members))
    _peaks(sch, peak, members, unroll)
    _scales(sch, scale, members)
    for result in (total, peak):
        sch.set_scope(result, 0, "local")
    return True


def _groups_of(sch: Schedule) -> int:
    """Groups of a row; 0 unless the stages are a sum, peaks of whole groups, codes and scales."""
    stages = blocks(sch)
    if len(stages) != 4:
        return 0
    (whole, inputs), (peaks, group) = (spatial_loops(sch, block) for block in stages[:2])
    if not (len(whole) == len(inputs) == len(group) == 1 and len(peaks) == 2):
        return 0
    groups, size = extent_of(sch, peaks[1]) or 0, extent_of(sch, group[0])
    is_whole = size == GROUP and extent_of(sch, inputs[0]) == groups * GROUP
    return groups if is_whole else 0


def _arguments(sch: Schedule, block) -> list[int]:
    """The numbers of the reads of a block that are arguments of the function."""
    arguments = list(sch.mod["main"].params)
    reads = [region.source for region in sch.get(block).reads]
    return [n for n, read in enumerate(reads) if any(read.same_as(a) for a in arguments)]


def _keep(sch: Schedule, readers: Sequence):
    """Copy the first argument that the first block reads to registers, for all of them."""
    number = _arguments(sch, readers[0])[0]
    return sch.cache_read(readers[0], number, "local", consumer_blocks=list(readers))


def _elements(sch: Schedule, stage, groups: int, members: int):
    """Bind the elements of a row to threads, and return the loop over those of a thread."""
    group, member, element = sch.split(sch.get_loops(stage)[-1], [groups, members, None])
    _bind(sch, group, member)
    return element


def _peaks(sch: Schedule, peak, members: int, unroll: Callable) -> None:
    _, group, element = sch.get_loops(peak)
    member, element = sch.split(element, [members, None])
    _bind(sch, group, member)
    unroll(element)


def _scales(sch: Schedule, scale, members: int) -> None:
    """The first thread of a group writes its scale."""
    group = sch.get_loops(scale)[-1]
    _bind(sch, group, sch.split(sch.add_unit_loop(scale), [None, members])[1])


def _bind(sch: Schedule, group, member) -> None:
    sch.bind(group, "threadIdx.y")
    sch.bind(member, "threadIdx.x")


OFFERS = {
    "members": MEMBERS,
    "width": WIDTHS,
    "kept": KEPT,
    "place": PLACES,
    "unroll": (0, 1),
}
RULE = Rule("cuda-norm-rows", norm_rows, frozenset({"norm"}), offers=OFFERS)
