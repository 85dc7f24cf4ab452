"""The choices of the delta rule of one position: keys per iteration, and the size of a task."""

from __future__ import annotations

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock, Schedule

from ..choices import Choices
from ..delta_operands import Operands
from ..loops import int64
from ..replace_nest import with_body
from ..tiling import settled
from .tasks import in_tasks, parallel

UNROLLED = (1, 2, 4, 8)
"""Offered keys per iteration."""


def choose_step(sch: Schedule, block, loop, choices: Choices) -> None:
    """Unroll the loops over the keys of the operator's nest, and run its tasks in parallel."""
    old = sch.get(block)
    keys = Operands.of(old).sizes[1]
    offered = [n for n in UNROLLED if keys % n == 0]
    count = settled(sch, choices.pick(sch, "unroll", offered, 1)) if len(offered) > 1 else 1
    if count > 1:
        new = _unrolled(old, keys, count)
        sch.state.replace(sch.get_sref(block), new, {old: new})
    in_tasks(sch, loop, parallel(sch, loop, choices, sch.get(loop).extent))


def _unrolled(block: SBlock, keys: int, count: int) -> SBlock:
    """The block, whose loops over all keys take `count` of them per iteration."""

    def split(loop: tirx.For) -> tirx.For:
        if loop.kind != tirx.ForKind.SERIAL or int(loop.extent) != keys:
            return loop
        outer, inner = (tirx.Var(name, str(loop.loop_var.ty.dtype)) for name in ("keys", "key"))
        place = outer * count + inner
        body = tvm_ffi.structural_map(
            loop.body, (tirx.Var, lambda var: place if var.same_as(loop.loop_var) else var)
        )
        each = tirx.For(inner, int64(0), int64(count), tirx.ForKind.UNROLLED, body)
        return tirx.For(outer, int64(0), int64(keys // count), tirx.ForKind.SERIAL, each)

    return with_body(block, tvm_ffi.structural_map(block.body, (tirx.For, split)))
