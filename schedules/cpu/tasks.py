"""How many iterations of a parallel loop a task takes: the last step of a schedule.

Threads share the tasks. Few large tasks occupy fewer threads, which suits kernels that take no
longer than it takes to wake a thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm_ffi
from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import Schedule

from ..choices import Choices
from ..loops import ceil_div
from ..tiling import settled

SERIAL = 1 << 16
"""All iterations: the calling thread runs them, and no other is woken."""
PER_TASK = (1, 2, 4, 8, 16, 32, SERIAL)
"""Offered iterations per task."""


def parallel(
    sch: Schedule,
    loop,
    choices: Choices,
    least: Expr | int,
    offered: Sequence[int] = PER_TASK,
) -> int:
    """Run the loop in parallel unless the choice is SERIAL; returns what `in_tasks` needs.

    `least` is the smallest number of iterations that the values of other choices would leave.
    """
    most = int(least) if isinstance(least, int | tirx.IntImm) else SERIAL
    fitting = [n for n in offered if n in (1, SERIAL) or n < most]
    size = settled(sch, choices.pick(sch, "per_task", fitting, 1))
    if size < SERIAL:
        sch.parallel(loop)
    return size


def in_tasks(sch: Schedule, loop, size: int) -> None:
    """Let each task take `size` iterations of the parallel loop; the last may take fewer.

    The end of a schedule: no primitive applies to the blocks of the loop afterwards. Primitives in
    turn would add a condition for the last task to each block.
    """
    if 1 < size < SERIAL:
        _group(sch, loop, size)


def _group(sch: Schedule, loop, size: int) -> None:
    old = sch.get(loop)
    count, dtype = old.extent, str(old.loop_var.ty.dtype)
    zero, most = tirx.const(0, dtype), tirx.const(size, dtype)
    task, inner = tirx.Var("task", dtype), tirx.Var("inner", dtype)
    place = task * most + inner
    body = tvm_ffi.structural_map(
        old.body, (tirx.Var, lambda var: place if var.same_as(old.loop_var) else var)
    )
    whole = isinstance(count, tirx.IntImm) and int(count) % size == 0
    taken = most if whole else tirx.min(most, count - task * most)
    serial = tirx.For(inner, zero, taken, tirx.ForKind.SERIAL, body)
    tasks = tirx.For(task, zero, ceil_div(count, size), old.kind, serial)
    sch.state.replace(sch.get_sref(loop), tasks, {})
