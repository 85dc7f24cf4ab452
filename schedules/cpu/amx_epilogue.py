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
from ..replace_nest import renamed


@dataclass(frozen=True)
class Epilogue:
    """What follows the sums of one iteration of the loop over blocks of rows."""

    stmt: tirx.Stmt
    number: tirx.Var
    """The variable of that loop."""

    @classmethod
    def of(cls, stmt: tirx.Stmt, number: tirx.Var) -> Epilogue:
        """Loops over rows and columns. Where vectors are whole, a condition holds for all lanes."""

        if isinstance(stmt, tirx.For) and (line := _Line.of(stmt.body)):
            rows = line.of_vectors(line.realize.block)
            stmt = tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, rows)
        return cls(stmt, number)

    @property
    def height(self) -> int:
        """Rows of a block, the iterations of its outermost loop; 1 if that is none over rows."""
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
        loop = self.stmt
        if self.height == 1 or (line := _Line.of(loop.body)) is None:
            return None
        rows = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, line.streamed())
        return Epilogue(rows, self.number)


@dataclass(frozen=True)
class _Line:
    """A row of an epilogue: a vectorized loop over 16 columns, perhaps in a loop over vectors."""

    loops: list[tirx.For]
    realize: SBlockRealize

    @classmethod
    def of(cls, stmt: tirx.Stmt) -> _Line | None:
        loops: list[tirx.For] = []
        while isinstance(stmt, tirx.For):
            loops.append(stmt)
            stmt = stmt.body
        if not isinstance(stmt, SBlockRealize) or len(loops) not in (1, 2):
            return None
        store, lanes = stmt.block.body, loops[-1]
        if not isinstance(store, tirx.BufferStore) or not has_whole_lines(store.buffer):
            return None
        is_vector = lanes.kind == tirx.ForKind.VECTORIZED and int(lanes.extent) == LANES
        return cls(loops, stmt) if is_vector else None

    @property
    def matrix(self) -> tirx.Buffer:
        return self.realize.block.body.buffer

    def at(self, value: Expr, vector: Expr, lane: int = 0) -> Expr:
        """The value in another vector, at one lane."""
        old = [loop.loop_var for loop in self.loops]
        new = [vector, int64(lane)][-len(old) :]
        return renamed(value, old, [n.astype(o.ty.dtype) for o, n in zip(old, new, strict=True)])

    def of_vectors(self, block: SBlock) -> tirx.Stmt:
        """The row with this block. Vectors are whole: the condition for one lane holds for all."""
        lanes = self.loops[-1].loop_var
        first = tirx.const(0, str(lanes.ty.dtype))
        inside = renamed(self.realize.predicate, [lanes], [first])
        body: tirx.Stmt = SBlockRealize(self.realize.iter_values, inside, block)
        for loop in reversed(self.loops):
            body = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)
        return body

    def streamed(self) -> tirx.Stmt:
        """Compute the row in registers, then store its vectors past the caches."""
        count = 1 if len(self.loops) == 1 else int(self.loops[0].extent)
        line = tirx.decl_buffer((int64(count * LANES),), "float32", "line")
        *vectors, lane = (int64(loop.loop_var) for loop in self.loops)
        place = vectors[0] * LANES + lane if vectors else lane
        block = self.realize.block
        store = tirx.BufferStore(line, block.body.value, [place])
        computed = self.of_vectors(SBlock(block.iter_vars, [], [], block.name_hint, store))
        body = tirx.SeqStmt([computed, self._stores(line, count)])
        return SBlockRealize([], True, SBlock([], [], [], "line", body, alloc_buffers=[line]))

    def _stores(self, line: tirx.Buffer, count: int) -> tirx.Stmt:
        vector = tirx.Var("vector", "int64")
        at = tuple(self.at(int64(value), vector) for value in self.realize.iter_values)
        value = line.vload([vector * LANES], f"float32x{LANES}")
        store = store_streaming(T.address_of(self.matrix[at]), value)
        guarded = tirx.IfThenElse(self.at(self.realize.predicate, vector), store, None)
        return tirx.For(vector, int64(0), int64(count), tirx.ForKind.UNROLLED, guarded)


def has_whole_lines(matrix: tirx.Buffer) -> bool:
    """Whether rows of a float32 matrix consist of vectors that begin at multiples of 64 bytes."""
    known = len(matrix.shape) == 2 and isinstance(matrix.shape[1], tirx.IntImm)
    return known and matrix.dtype == "float32" and int(matrix.shape[1]) % TILE == 0


def _fresh(stmt: tirx.Stmt) -> tirx.Stmt:
    """A copy whose loops, axes and buffers are its own.

    Its blocks tell no regions: those of buffers from outside would be renewed as well.
    """

    def without_regions(block: SBlock) -> SBlock:
        axes, buffers = block.iter_vars, block.alloc_buffers
        return SBlock(axes, [], [], block.name_hint, block.body, alloc_buffers=buffers)

    return renew_defs(
        tirx.PrimFunc([], tvm_ffi.structural_map(stmt, (SBlock, without_regions)))
    ).body
