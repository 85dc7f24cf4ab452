"""Kernels that treat row after row on a GPU: norms, activation functions, quantising their results.

A workgroup owns a row. What is summed over the row, or over a group of 32 neighbours, is summed by
threads together, and each of them gets the result into a register; everything else is computed
where it is needed, twice rather than stored: a row that was read once comes from the cache the
second time. Results stay out of shared memory on purpose: `ThreadSync` takes what one thread of a
group writes and all of the group read for an access of one and the same thread.
"""

from __future__ import annotations

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, blocks, find
from .grid import THREADS, extent_of, inline_views, pick_threads, spatial_loops

GROUP = 32
"""Neighbours with a scale of their own: as many threads look for the largest of them."""


def rows(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """One workgroup around all stages of a row."""
    if not find(sch, "norm") and not find(sch, "quantize"):
        return False
    inline_views(sch)
    threads = pick_threads(sch, target, choices, "threads", THREADS[-1])
    stages = blocks(sch)
    first = next((n for n, b in enumerate(stages) if _groups_of(sch, b) > 1), len(stages))
    row = sch.merge(*[sch.get_loops(block)[0] for block in stages])
    for block in stages[:first]:
        _whole_row(sch, block, threads)
    workgroups = [row]
    if first < len(stages):
        chunk = _in_groups(sch, stages[first:], threads)
        workgroups += [chunk] if first == 0 else []
    for loop, axis in zip(reversed(workgroups), "xy", strict=False):
        sch.bind(loop, f"blockIdx.{axis}")
    return True


def _whole_row(sch: Schedule, block, threads: int) -> None:
    """The elements of a row onto threads: written by them, or summed by them together."""
    inner = sch.get_loops(block)[1:]
    if spatial_loops(sch, block)[1]:
        sch.set_scope(block, 0, "local")
        inner = inner[-1:]
    elements = sch.fuse(*inner) if inner else sch.add_unit_loop(block)
    sch.bind(sch.split(elements, [None, threads])[1], "threadIdx.x")


def _groups_of(sch: Schedule, block) -> int:
    """How many groups of a row the block finds a result for each; 1: for the whole row."""
    spatial, reduced = spatial_loops(sch, block)
    return extent_of(sch, spatial[-1]) or 1 if reduced and len(spatial) > 1 else 1


def _in_groups(sch: Schedule, stages: list, threads: int):
    """Stages with a result for each group, a few groups at a time; the loop over these chunks."""
    groups = _groups_of(sch, stages[0])
    together = min(threads // GROUP, 1 << (groups - 1).bit_length())
    chunks = []
    for block in stages:
        group, member = _loops_of_groups(sch, block, groups)
        chunk, group = sch.split(group, [None, together])
        sch.bind(group, "threadIdx.y")
        sch.bind(sch.split(member, [None, GROUP])[1], "threadIdx.x")
        chunks.append(chunk)
    return sch.merge(*chunks)


def _loops_of_groups(sch: Schedule, block, groups: int) -> list:
    """The loops over the groups of a row, and over what there is of each: members, or one."""
    loop, *members = sch.get_loops(block)[1:]
    if members:
        sch.set_scope(block, 0, "local")
        return [loop, *members]
    if extent_of(sch, loop) == groups:
        return [loop, sch.add_unit_loop(block)]
    return list(sch.split(loop, [groups, GROUP]))


OFFERS = {"threads": THREADS}
RULE = Rule("vulkan-rows", rows, frozenset({"norm", "quantize"}), offers=OFFERS)
