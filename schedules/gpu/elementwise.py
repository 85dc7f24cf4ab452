"""The fallback on a GPU: gathers, copies, activations, cache writes, small reductions.

Each stage is a kernel. A thread computes one element, or one vector of adjacent elements, with the
whole reduction for it; adjacent threads take adjacent elements.
"""

from __future__ import annotations

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, blocks
from .grid import THREADS, extent_of, inline_views, pick_threads, spatial_loops

MOST_STAGES = 8
"""Most stages per function for which a record may name a choice."""
MANY = 1 << 14
"""From this number of elements on, full-size workgroups occupy every multiprocessor."""


def elementwise(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule any function that consists of loops around blocks."""
    inline_views(sch)
    for number, block in enumerate(blocks(sch)):
        bind_elements(sch, block, target, choices, f"threads.{number}")
    return True


def bind_elements(
    sch: Schedule, block, target: tvm.target.Target, choices: Choices, name: str
) -> None:
    """Bind all elements of the block to threads; choice `name` is the workgroup size."""
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
