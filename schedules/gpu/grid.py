"""Binding of loops to workgroups and threads.

A kernel uses `threadIdx.x` alone or with `threadIdx.y`, the same in every stage.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from ..choices import Choices
from ..rule import blocks
from ..tiling import settled

THREADS = (64, 128, 256)
"""Offered workgroup sizes: whole subgroups on every device."""
FEW = 64


def most_threads(target: tvm.target.Target) -> int:
    """The largest workgroup of the target, in threads."""
    return int(target.attrs.get("max_threads_per_block", FEW))


def pick_threads(
    sch: Schedule, target: tvm.target.Target, choices: Choices, name: str, default: int
) -> int:
    """Pick a workgroup size, in threads, that the target allows."""
    offered = [n for n in THREADS if n <= most_threads(target)]
    return settled(sch, choices.pick(sch, name, offered, max(default, FEW)))


def is_spatial(sch: Schedule, block) -> bool:
    """Whether the block has no reduction axis."""
    axes = sch.get(block).iter_vars
    return all(axis.iter_type == tirx.IterVar.DataPar for axis in axes)


def spatial_loops(sch: Schedule, block) -> tuple[list, list]:
    """The spatial loops and the reduction loops of a block.

    All loops count as reduction loops if they do not match the block's axes one to one.
    """
    loops, axes = sch.get_loops(block), sch.get(block).iter_vars
    kinds = [axis.iter_type == tirx.IterVar.DataPar for axis in axes]
    if len(kinds) != len(loops):
        return [], loops
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind]
    return spatial, [loop for loop, kind in zip(loops, kinds, strict=True) if not kind]


def writes_output(sch: Schedule, block) -> bool:
    """Whether the block writes an argument of the function."""
    arguments = list(sch.mod["main"].params)
    return any(
        region.source.same_as(argument)
        for region in sch.get(block).writes
        for argument in arguments
    )


def inline_views(sch: Schedule, keep: frozenset[str] = frozenset()) -> None:
    """Inline stages into their consumers: recomputing is cheaper than storing.

    Reductions, the function's outputs and the blocks named in `keep` stay.
    """
    for block in blocks(sch):
        if sch.get(block).name_hint in keep or not is_spatial(sch, block):
            continue
        if not writes_output(sch, block):
            sch.compute_inline(block)


def extent_of(sch: Schedule, loop) -> int | None:
    """The extent of a loop, or None if it is dynamic."""
    extent = sch.get(loop).extent
    return int(extent) if isinstance(extent, tirx.IntImm) else None
