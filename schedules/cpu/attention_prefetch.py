"""Prefetches for the attention of one query, which reads every key and value once, from memory.

A chunk of positions has two phases, scores and mixing. Without help the memory is idle at the start
of each, and while their results are computed. So the scores of a panel prefetch the values of that
panel, and its mixing prefetches the keys of the panel with the same place in the next chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm_ffi
from tvm import DataType, tirx
from tvm.ir import Expr, TensorLoad
from tvm.s_tir import Schedule

from ..isa.dot_intrinsics import prefetch
from ..isa.register_tiles import LANES
from ..loops import ceil_div, int64
from ..replace_nest import renamed
from ..select import Units

LINE = 64
"""Bytes of a cache line."""
PREFETCH = (0, 1)
"""Offered: 1 for the prefetches of this module, 0 for none."""


def by_default(units: Units) -> int:
    """The default of PREFETCH: measured on x86-64, where it saves a quarter to a third of the time;
    not measured elsewhere."""
    return int(units.on_x86)


def add_prefetches(sch: Schedule, chunk: int, end: Expr) -> None:
    """Prefetch what the blocks "scores" and "mix" read of the cache.

    `chunk`: panels of a chunk; `end`: number of visible positions. Staged copies are not
    prefetched. The end of a schedule: no primitive applies afterwards.
    """
    scores, mix = (sch.get_sblock(f"{name}_update") for name in ("scores", "mix"))
    in_scores, in_mix = sch.get_loops(scores)[0], sch.get_loops(mix)[2]
    keys, values = _Panel.of(sch, scores, axis=0), _Panel.of(sch, mix, axis=2)
    if values:
        here = values.at(sch.get(in_scores).loop_var)
        _prepend(sch, in_scores, here.lines())
    if keys:
        ahead = keys.at(sch.get(in_mix).loop_var + chunk)
        _, panel, *_ = ahead.start
        _prepend(sch, in_mix, tirx.IfThenElse(panel * LANES < end, ahead.lines(), None))


@dataclass(frozen=True)
class _Panel:
    """Contiguous keys (heads, panels, d, 16) or values (heads, positions, d) of a panel."""

    buffer: tirx.Buffer
    start: list[Expr]
    """The index of the first element."""
    number: tirx.Var
    """The variable of the panel in `start`."""

    @classmethod
    def of(cls, sch: Schedule, block, axis: int) -> _Panel | None:
        """What the block reads, None if that is a staged copy. `axis`: its axis of panels."""
        loads: list[TensorLoad] = []
        tvm_ffi.structural_walk(sch.get(block).body, (TensorLoad, loads.append))
        params = list(sch.mod["main"].params)
        stored = [load for load in loads if any(load.source.same_as(p) for p in params)]
        if not stored:
            return None
        number, *rest = _first(axis, [one.var for one in sch.get(block).iter_vars])
        zeros = [int64(0)] * len(rest)
        start = [renamed(at, rest, zeros) for at in stored[0].indices]
        return cls(stored[0].source, start, number)

    def at(self, number: Expr) -> _Panel:
        """The panel with this number in the chunk."""
        start = [renamed(at, [self.number], [number]) for at in self.start]
        return _Panel(self.buffer, start, self.number)

    def lines(self) -> tirx.For:
        """Prefetch every cache line."""
        in_line = LINE // DataType(self.buffer.dtype).itemsize
        depth, columns = (self.buffer.shape[2], self.buffer.shape[-1])
        line = tirx.Var("line", "int64")
        *first, row, _ = self.start
        place = line * in_line
        at = (*first, row + place // columns, place % columns)
        count = ceil_div(int64(int(depth) * LANES), in_line)
        body = tirx.Evaluate(prefetch(self.buffer, at))
        return tirx.For(line, int64(0), count, tirx.ForKind.SERIAL, body)


def _first(place: int, items: list) -> list:
    """The items, that at `place` first."""
    return [items[place], *items[:place], *items[place + 1 :]]


def _prepend(sch: Schedule, loop, statement: tirx.Stmt) -> None:
    old = sch.get(loop)
    body = tirx.SeqStmt([statement, old.body])
    new = tirx.For(old.loop_var, old.min, old.extent, old.kind, body)
    sch.state.replace(sch.get_sref(loop), new, {})
