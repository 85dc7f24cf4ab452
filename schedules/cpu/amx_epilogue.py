"""The epilogue of a block of sums as a statement that can be placed, row by row, where it helps.

It comes from a schedule as loops over rows and columns with a block inside. Copies of it have loop
variables of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm_ffi
from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import SBlock, SBlockRealize, renew_defs
from tvm.script import tirx as T

from ..isa.amx_instructions import TILE
from ..isa.streaming_store import LANES, store_streaming
from ..loops import int64
from ..replace_nest import renamed, with_body


@dataclass(frozen=True)
class Epilogue:
    """What follows the sums of one iteration of the loop over blocks of rows."""

    stmt: tirx.Stmt
    number: tirx.Var
    """The variable of that loop."""

    @property
    def height(self) -> int:
        """Iterations of its outermost loop, the rows of a block; 1 if it is not a loop over them."""
        loop = self.stmt
        whole = isinstance(loop, tirx.For) and loop.kind == tirx.ForKind.SERIAL
        return int(loop.extent) if whole and isinstance(loop.extent, tirx.IntImm) else 1

    def rows(self, first: Expr, count: int, number: Expr) -> tirx.Stmt:
        """`count` rows of the block with this number, from row `first`."""
        if self.height == 1:
            return _fresh(renamed(self.stmt, [self.number], [number]))
        row = tirx.Var("row", "int64")
        old = self.stmt.loop_var
        place = (first + row).astype(old.ty.dtype)
        body = renamed(self.stmt.body, [old, self.number], [place, number])
        return tirx.For(row, int64(0), int64(count), tirx.ForKind.SERIAL, _fresh(body))

    def streamed(self) -> Epilogue | None:
        """The same with stores that bypass the caches; None unless it writes a float32 matrix in
        whole vectors of its rows."""
        if self.height == 1 or (line := _Line.of(self.stmt)) is None:
            return None
        loop = self.stmt
        rows = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, line.written())
        return Epilogue(rows, self.number)


@dataclass(frozen=True)
class _Line:
    """A row of an epilogue: a vectorized loop over 16 columns, in a loop over vectors."""

    body: tirx.Stmt
    realize: SBlockRealize
    vector: tirx.For | None
    lane: tirx.Var

    @classmethod
    def of(cls, stmt: tirx.For) -> _Line | None:
        loops, body = [], stmt.body
        while isinstance(body, tirx.For):
            loops.append(body)
            body = body.body
        if not (loops and len(loops) < 3 and isinstance(body, SBlockRealize)):
            return None
        *outer, lanes = loops
        store = body.block.body
        if not isinstance(store, tirx.BufferStore) or not _has_whole_lines(store.buffer):
            return None
        if lanes.kind != tirx.ForKind.VECTORIZED or int(lanes.extent) != LANES:
            return None
        return cls(stmt.body, body, outer[0] if outer else None, lanes.loop_var)

    def written(self) -> tirx.Stmt:
        """Compute the row in registers, then store its vectors."""
        count = 1 if self.vector is None else int(self.vector.extent)
        line = tirx.decl_buffer((int64(count * LANES),), "float32", "line")
        vectors = self.lane if self.vector is None else self.vector.loop_var * LANES + self.lane
        block = self.realize.block
        store = tirx.BufferStore(line, block.body.value, [int64(vectors)])
        inside = _replaced(self.body, self.realize, store)
        body = tirx.SeqStmt([inside, self._stores(line, count)])
        return SBlockRealize([], True, SBlock([], [], [], "line", body, alloc_buffers=[line]))

    def _stores(self, line: tirx.Buffer, count: int) -> tirx.Stmt:
        """A condition holds for whole vectors, because the matrix consists of them."""
        vector = tirx.Var("vector", "int64")
        old = [self.lane] if self.vector is None else [self.lane, self.vector.loop_var]
        new = [tirx.const(0, str(self.lane.ty.dtype)), vector.astype(old[-1].ty.dtype)]
        at = [renamed(int64(value), old, new[: len(old)]) for value in self.realize.iter_values]
        matrix = self.realize.block.body.buffer
        value = line.vload([vector * LANES], f"float32x{LANES}")
        store = store_streaming(T.address_of(matrix[tuple(at)]), value)
        inside = renamed(self.realize.predicate, old, new[: len(old)])
        guarded = tirx.IfThenElse(inside, store, None)
        return tirx.For(vector, int64(0), int64(count), tirx.ForKind.UNROLLED, guarded)


def _has_whole_lines(matrix: tirx.Buffer) -> bool:
    """Whether rows of a float32 matrix consist of vectors that begin at multiples of 64 bytes."""
    known = len(matrix.shape) == 2 and isinstance(matrix.shape[1], tirx.IntImm)
    return known and matrix.dtype == "float32" and int(matrix.shape[1]) % TILE == 0


def _replaced(stmt: tirx.Stmt, old: SBlockRealize, store: tirx.BufferStore) -> tirx.Stmt:
    """The statement with `store` as the body of the block `old`."""

    def other(realize: SBlockRealize) -> SBlockRealize:
        if not realize.block.same_as(old.block):
            return realize
        block = with_body(realize.block, store)
        block = SBlock(block.iter_vars, block.reads, [], block.name_hint, store)
        return SBlockRealize(realize.iter_values, realize.predicate, block)

    return tvm_ffi.structural_map(stmt, (SBlockRealize, other))


def _fresh(stmt: tirx.Stmt) -> tirx.Stmt:
    """A copy whose loops, axes and buffers are its own.

    Its blocks tell no regions: those of buffers from outside would be renewed as well.
    """

    def without_regions(block: SBlock) -> SBlock:
        axes, buffers = block.iter_vars, block.alloc_buffers
        return SBlock(axes, [], [], block.name_hint, block.body, alloc_buffers=buffers)

    return renew_defs(tirx.PrimFunc([], tvm_ffi.structural_map(stmt, (SBlock, without_regions)))).body
