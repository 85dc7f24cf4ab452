"""Loops onto workgroups and threads.

A kernel uses `threadIdx.x` alone or with `threadIdx.y`, every stage alike.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from ..choices import Choices
from ..rule import blocks
from ..tiling import settled

THREADS = (64, 128, 256)
"""Offered sizes of a workgroup: what every device allows, and whole subgroups on all of them."""
FEW = 64


def most_threads(target: tvm.target.Target) -> int:
    """How many threads a workgroup may have."""
    return int(target.attrs.get("max_threads_per_block", FEW))


def pick_threads(
    sch: Schedule, target: tvm.target.Target, choices: Choices, name: str, default: int
) -> int:
    """A size of workgroup that the target allows."""
    offered = [n for n in THREADS if n <= most_threads(target)]
    return settled(sch, choices.pick(sch, name, offered, max(default, FEW)))


def is_spatial(sch: Schedule, block) -> bool:
    """Whether each instance of the block writes elements of its own."""
    axes = sch.get(block).iter_vars
    return all(axis.iter_type == tirx.IterVar.DataPar for axis in axes)


def spatial_loops(sch: Schedule, block) -> tuple[list, list]:
    """The loops of a block: those of its results, and those that are summed over."""
    loops, axes = sch.get_loops(block), sch.get(block).iter_vars
    kinds = [axis.iter_type == tirx.IterVar.DataPar for axis in axes]
    if len(kinds) != len(loops):
        return [], loops
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind]
    return spatial, [loop for loop, kind in zip(loops, kinds, strict=True) if not kind]


def writes_output(sch: Schedule, block) -> bool:
    """Whether what the block writes is an argument of the function."""
    arguments = list(sch.mod["main"].params)
    return any(
        region.source.same_as(argument)
        for region in sch.get(block).writes
        for argument in arguments
    )


def inline_views(sch: Schedule, keep: frozenset[str] = frozenset()) -> None:
    """Fold stages into those that read them: to compute twice is cheaper than to store.

    What is summed over, the function's results and blocks called `keep` stay.
    """
    for block in blocks(sch):
        if sch.get(block).name_hint in keep or not is_spatial(sch, block):
            continue
        if not writes_output(sch, block):
            sch.compute_inline(block)


def extent_of(sch: Schedule, loop) -> int | None:
    """How often a loop runs, None where that is only known when it is called."""
    extent = sch.get(loop).extent
    return int(extent) if isinstance(extent, tirx.IntImm) else None
