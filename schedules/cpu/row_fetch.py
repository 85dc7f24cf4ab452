"""Prefetches of the next row, for kernels that pass over a row several times.

Only the first pass waits for memory; the hardware's prefetcher stops at the end of a page, which is
at most a few rows away.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm_ffi
from tvm import DataType, tirx
from tvm.ir import Expr, TensorLoad
from tvm.s_tir import SBlockRealize, Schedule

from ..isa.dot_intrinsics import prefetch
from ..loops import int64
from ..replace_nest import renamed

LINE = 64
"""Bytes of a cache line."""


@dataclass(frozen=True)
class FirstPass:
    """The first pass over a row of an input of two dimensions: one of its vectors."""

    loop: tirx.For
    buffer: tirx.Buffer
    row: Expr
    column: Expr

    @classmethod
    def of(cls, sch: Schedule, row) -> FirstPass | None:
        """The first pass below the loop `row`; None if rows are not read from an input."""
        rows = sch.get(row)
        inputs = [
            param for param in sch.mod["main"].params if isinstance(param.ty, tirx.BufferType)
        ]
        passes = (cls._of_vector(loop, rows, inputs) for loop in _vectors(rows.body))
        return next((found for found in passes if found), None)

    @classmethod
    def _of_vector(
        cls, loop: tirx.For, rows: tirx.For, inputs: list[tirx.Buffer]
    ) -> FirstPass | None:
        """What the block of a vectorized loop reads of the inputs, at the first lane; None unless
        its row is the iteration of `rows`."""
        realize = loop.body
        axes = [axis.var for axis in realize.block.iter_vars]
        values = [
            value.astype(axis.ty.dtype)
            for axis, value in zip(axes, realize.iter_values, strict=True)
        ]
        zero = tirx.const(0, str(loop.loop_var.ty.dtype))
        loads: list[TensorLoad] = []
        tvm_ffi.structural_walk(realize.block.body, (TensorLoad, loads.append))
        for load in loads:
            if len(load.indices) == 2 and any(load.source.same_as(given) for given in inputs):
                row, column = (renamed(at, axes, values) for at in load.indices)
                if row.same_as(rows.loop_var):
                    return cls(loop, load.source, row, renamed(column, [loop.loop_var], [zero]))
        return None

    def fetch_next_row(self, sch: Schedule, row) -> None:
        """Let it fetch the next iteration of the loop `row`. No primitive applies to the blocks of
        the loop afterwards."""
        loop = sch.get(row)
        body = tvm_ffi.structural_map(loop.body, (tirx.For, self._fetching))
        changed = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)
        sch.state.replace(sch.get_sref(row), changed, {})

    def _fetching(self, loop: tirx.For) -> tirx.Stmt:
        """The loop after the fetches of the same places of the next row, if it is the one."""
        if not loop.loop_var.same_as(self.loop.loop_var):
            return loop
        following = tirx.min(int64(self.row) + 1, int64(self.buffer.shape[0]) - 1)
        in_line = LINE // DataType(self.buffer.dtype).itemsize
        lines = [
            tirx.Evaluate(prefetch(self.buffer, (following, int64(self.column) + place)))
            for place in range(0, int(loop.extent), in_line)
        ]
        return tirx.SeqStmt([*lines, loop])


def _vectors(stmt: tirx.Stmt) -> list[tirx.For]:
    """Vectorized loops over a single block, in order."""
    found: list[tirx.For] = []

    def look(loop: tirx.For) -> None:
        if loop.kind == tirx.ForKind.VECTORIZED and isinstance(loop.body, SBlockRealize):
            found.append(loop)

    tvm_ffi.structural_walk(stmt, (tirx.For, look))
    return found
