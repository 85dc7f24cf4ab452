"""Common steps of schedules whose intrinsics take whole matrices."""

from __future__ import annotations

from tvm.s_tir import Schedule


def whole_matrices(sch: Schedule, block, size: tuple[int, int] | None):
    """Make the two innermost loops span one matrix, and unroll the loops over matrices."""
    *outer, i, j = sch.get_loops(block)
    if size is not None:
        r, i = sch.split(i, [None, size[0]])
        c, j = sch.split(j, [None, size[1]])
        sch.reorder(r, c, i, j)
        outer = [r, c]
    for loop in outer[-2:]:
        sch.unroll(loop)
    return i
