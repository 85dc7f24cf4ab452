"""Row-wise kernels on a GPU: norms, activation functions, and quantisation of their results.

A workgroup owns a row. Its threads compute a reduction over the row, or over a group of adjacent
elements (32 codes, or a head), together, and each of them gets the result in a register. Everything
else is recomputed where it is needed rather than stored: the second read of a row comes from the
cache. Results are deliberately not in shared memory: `ThreadSync` mistakes a value that one thread
of a group writes and the whole group reads for an access by a single thread, and inserts no
barrier.
"""

from __future__ import annotations

from itertools import takewhile

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, blocks, find
from .grid import THREADS, extent_of, inline_views, pick_threads, spatial_loops
from .threads import WIDTHS, pick

PATTERNS = frozenset({"norm", "heads", "quantize"})
UNROLL = (1, 2, 4, 8)
"""Offered numbers of unrolled steps of a thread: elements of a row, or of a group."""
MEMBERS = (1, 2, 4, 8, 16, 32)
"""Offered threads per group, besides the most."""


def rows(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Run all stages of a row in one workgroup, or of a few groups if no stage needs the row."""
    if not any(find(sch, pattern) for pattern in PATTERNS):
        return False
    inline_views(sch)
    threads = pick_threads(sch, target, choices, "threads", THREADS[-1])
    stages = blocks(sch)
    whole = list(takewhile(lambda block: _groups_of(sch, block) == 1, stages))
    grouped = stages[len(whole) :]
    unroll = pick(sch, choices, "unroll", UNROLL, 1)
    width = pick(sch, choices, "vector", _widths(sch, whole), 1)
    workgroups = [sch.merge(*[sch.get_loops(block)[0] for block in stages])]
    shape = _shape(sch, grouped, threads, choices) if grouped else [threads]
    for block in whole:
        _whole_row(sch, block, shape, width, unroll)
    if grouped:
        groups = _groups_of(sch, grouped[0])
        chunk = sch.merge(*[_in_groups(sch, block, groups, shape, unroll) for block in grouped])
        workgroups += [] if whole else [chunk]
    for loop, axis in zip(reversed(workgroups), "xy", strict=False):
        sch.bind(loop, f"blockIdx.{axis}")
    return True


def _widths(sch: Schedule, whole: list) -> list[int]:
    """Numbers of adjacent elements that divide every row that is written."""
    rows = [sch.get_loops(block)[-1] for block in whole if _is_written(sch, block)]
    extents = [extent_of(sch, row) or 1 for row in rows]
    return [n for n in WIDTHS if n == 1 or (rows and all(e % n == 0 for e in extents))]


def _is_written(sch: Schedule, block) -> bool:
    """Whether threads write several elements of a row, instead of reducing them."""
    loops = sch.get_loops(block)
    return not spatial_loops(sch, block)[1] and len(loops) > 1 and extent_of(sch, loops[-1]) != 1


def _whole_row(sch: Schedule, block, shape: list[int], width: int, unroll: int) -> None:
    """Bind the elements of a row to threads, which write them or reduce them together."""
    written = _is_written(sch, block)
    inner = sch.get_loops(block)[1:]
    if spatial_loops(sch, block)[1]:
        sch.set_scope(block, 0, "local")
        inner = inner[-1:]
    if written and width > 1:  # before fusing, so that the tail of a row needs no condition
        last, lane = sch.split(inner.pop(), [None, width])
        sch.vectorize(lane)
        inner.append(last)
    elements = sch.fuse(*inner) if inner else sch.add_unit_loop(block)
    rounds, *threads = sch.split(elements, [None, *shape])
    _bind(sch, *threads)
    _unroll(sch, rounds, unroll)


def _unroll(sch: Schedule, loop, steps: int) -> None:
    """Unroll steps of a loop, at most all of them."""
    extent = extent_of(sch, loop) or 1
    steps = min(steps, 1 << (extent.bit_length() - 1))
    if steps > 1:
        sch.unroll(sch.split(loop, [None, steps])[1])


def _bind(sch: Schedule, *loops) -> None:
    for loop, axis in zip(reversed(loops), "xy", strict=False):
        sch.bind(loop, f"threadIdx.{axis}")


def _groups_of(sch: Schedule, block) -> int:
    """Number of groups of a row that the block reduces separately; 1 for the whole row."""
    spatial, reduced = spatial_loops(sch, block)
    return extent_of(sch, spatial[-1]) or 1 if reduced and len(spatial) > 1 else 1


def _shape(sch: Schedule, grouped: list, threads: int, choices: Choices) -> list[int]:
    """Groups processed at a time, and threads per group: one for each stored element, or for a few
    of them if a group has more elements than a workgroup has threads."""
    groups = _groups_of(sch, grouped[0])
    stored = max(extent_of(sch, sch.get_loops(block)[1]) or 1 for block in grouped)
    most = _largest_divisor(stored // groups, threads)
    least = _largest_divisor(stored // groups, THREADS[0])
    fitting = sorted({n for n in MEMBERS if n < least and least % n == 0} | {most})
    members = pick(sch, choices, "members", fitting, most)
    return [min(threads // members, 1 << (groups - 1).bit_length()), members]


def _largest_divisor(value: int, most: int) -> int:
    return max(n for n in range(1, min(value, most) + 1) if value % n == 0)


def _in_groups(sch: Schedule, block, groups: int, shape: list[int], unroll: int):
    """Bind a stage with per-group results to threads. Returns the loop over chunks of groups."""
    together, members = shape
    group, *rest = sch.get_loops(block)[1:]
    if rest:
        sch.set_scope(block, 0, "local")
        member, steps = sch.split(rest[0], [members, None])
        _unroll(sch, steps, unroll)
    elif extent_of(sch, group) == groups:
        member = sch.split(sch.add_unit_loop(block), [None, members])[1]
    elif extent_of(sch, group) == groups * members:
        group, member = sch.split(group, [None, members])
    else:
        group, steps, member = sch.split(group, [groups, None, members])
        _unroll(sch, steps, unroll)
    chunk, group = sch.split(group, [None, together])
    _bind(sch, group, member)
    return chunk


OFFERS = {
    "threads": THREADS,
    "unroll": UNROLL,
    "vector": WIDTHS,
    "members": range(1, THREADS[-1] + 1),
}
RULE = Rule("vulkan-rows", rows, PATTERNS, offers=OFFERS)
