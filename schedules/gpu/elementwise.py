"""The fallback on a GPU: gathers, copies, activations, writing into the cache, small sums.

A stage is a kernel. A thread computes one element or one vector of neighbours, with all that is
summed up for it; neighbouring threads take neighbouring elements.
"""

from __future__ import annotations

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, blocks
from .grid import THREADS, extent_of, inline_views, pick_threads, spatial_loops

MOST_STAGES = 8
"""Of a function: more could be chosen for than a record may name."""
MANY = 1 << 14
"""Elements from which on there is work for workgroups of full size on every multiprocessor."""


def elementwise(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Takes everything that consists of loops around blocks."""
    inline_views(sch)
    for number, block in enumerate(blocks(sch)):
        bind_elements(sch, block, target, choices, f"threads.{number}")
    return True


def bind_elements(
    sch: Schedule, block, target: tvm.target.Target, choices: Choices, name: str
) -> None:
    """All elements of the block onto threads; the choice of how many is called `name`."""
    spatial, reduced = spatial_loops(sch, block)
    if not spatial:
        spatial = [sch.add_unit_loop(reduced[0] if reduced else block)]
    sch.reorder(*spatial, *reduced)
    fused = sch.fuse(*spatial)
    extent = extent_of(sch, fused)
    default = THREADS[-1] if extent is None or extent >= MANY else THREADS[0]
    threads = pick_threads(sch, target, choices, name, default)
    group, thread = sch.split(fused, [None, threads])
    sch.bind(group, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")


OFFERS = {f"threads.{number}": THREADS for number in range(MOST_STAGES)}
RULE = Rule("vulkan-elementwise", elementwise, offers=OFFERS)
