"""The fallback on a GPU: gathers, copies, activations, cache writes, small reductions.

Each stage is a kernel. A thread computes one element, or one vector of adjacent elements, with the
whole reduction for it; adjacent threads take adjacent elements.
"""

from __future__ import annotations

from math import prod

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, blocks
from .grid import THREADS, extent_of, inline_views, pick_threads, spatial_loops
from .threads import WIDTHS, pick

MOST_STAGES = 8
"""Most stages per function for which a record may name a choice."""
MANY = 1 << 14
"""From this number of elements on, full-size workgroups occupy every multiprocessor."""


def elementwise(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule any function that consists of loops around blocks."""
    inline_views(sch)
    for number, block in enumerate(blocks(sch)):
        bind_elements(sch, block, target, choices, number)
    return True


def bind_elements(
    sch: Schedule, block, target: tvm.target.Target, choices: Choices, number: int
) -> None:
    """Bind all elements of the block to threads; the names of its choices end with `number`.

    A thread computes `rounds` times `vector` elements, `vector` of them adjacent.
    """
    spatial, reduced = spatial_loops(sch, block)
    if not spatial:
        spatial = [sch.add_unit_loop(reduced[0] if reduced else block)]
    sch.reorder(*spatial, *reduced)
    extents = [extent_of(sch, loop) for loop in spatial]
    extent = None if None in extents else prod(n or 1 for n in extents)
    default = THREADS[-1] if extent is None or extent >= MANY else THREADS[0]
    threads = pick_threads(sch, target, choices, f"threads.{number}", default)
    width = pick(sch, choices, f"vector.{number}", _widths(extents[-1], reduced), 1)
    rounds = pick(sch, choices, f"rounds.{number}", _rounds(extent), 1)
    if width > 1:
        last, lane = sch.split(spatial[-1], [None, width])
        sch.vectorize(lane)
        spatial = [*spatial[:-1], last]
    group, *steps, thread = sch.split(
        sch.fuse(*spatial), [None, *([rounds] if rounds > 1 else []), threads]
    )
    sch.bind(group, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    for step in steps:
        sch.unroll(step)


def _widths(extent: int | None, reduced: list) -> list[int]:
    """Adjacent elements of a thread, if there is no reduction for each."""
    fits = extent is not None and not reduced
    return [n for n in WIDTHS if n == 1 or (fits and (extent or 1) % n == 0)]


def _rounds(extent: int | None) -> list[int]:
    """Elements of a thread, while the smallest workgroup has as many."""
    return [n for n in ROUNDS if extent is None or n == 1 or n * THREADS[0] <= extent]


ROUNDS = (1, 2, 4, 8)
"""Offered numbers of elements, or vectors of them, that a thread computes one after another."""
CHOICES = (("threads", THREADS), ("vector", WIDTHS), ("rounds", ROUNDS))


def offers(stages: int) -> dict[str, tuple[int, ...]]:
    """The choices of `bind_elements` for so many stages."""
    return {f"{name}.{n}": values for n in range(stages) for name, values in CHOICES}


OFFERS = offers(MOST_STAGES)
RULE = Rule("vulkan-elementwise", elementwise, offers=OFFERS)
