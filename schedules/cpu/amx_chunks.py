"""The loop nest of a tile matmul that unpacks its weights by chunks of the input.

Sums start in the tiles, at zero or where the chunk before left them, so they need no initial value
in memory. And the lines that the epilogue will write are fetched while the tiles multiply: stores
that wait for their lines take as long as the products themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import SBlock, SBlockRealize, Schedule
from tvm.s_tir.schedule import LoopRV

from ..isa.amx_instructions import (
    STORE,
    TILE,
    ZERO,
    addresses,
    load,
    multiplies,
    tile_of,
    uses_tiles,
)
from ..isa.amx_intrinsics import Block
from ..loops import int64, sequence
from ..tiling import is_one
from .amx_fetch import L1, WRITE, fetch


@dataclass(frozen=True)
class Written:
    """The part of a float32 matrix that the epilogue of a block of sums writes."""

    matrix: tirx.Buffer  # (m, n)
    row: Expr
    column: Expr

    def prefetch(self, row: Expr, vector: Expr) -> tirx.Stmt:
        """Fetch 16 columns of a row of the part, for writing; the last ones beyond the matrix."""
        m, n = (int64(extent) for extent in self.matrix.shape)
        place = (
            tirx.min(self.row + row, m - 1),
            tirx.min(self.column + vector * TILE, n - 1),
        )
        return fetch(self.matrix[place], WRITE, L1)


@dataclass(frozen=True)
class Nest:
    """The loops that the changes need."""

    task: LoopRV
    rows: LoopRV
    """Over blocks of sums."""
    chunks: LoopRV | None
    """Over chunks of the input, around `rows`; None if a block takes all of it at once."""
    vectors: int
    """Of 16 columns, per row that the epilogue writes."""
    is_inside: bool
    """Whether the epilogue is in `rows`; otherwise it is the last part of a task."""

    @property
    def outer(self) -> LoopRV:
        return self.rows if self.is_inside else self.task


def complete_chunks(sch: Schedule, nest: Nest, last, block: Block, is_prefetched: bool) -> None:
    """Start the sums in the tiles and add the prefetches, below the loops of `nest`.

    `last` is the block of the epilogue. No primitive applies to the blocks of the loop afterwards.
    """
    loop = sch.get(nest.outer)
    body = tvm_ffi.structural_map(loop.body, (SBlock, _started))
    written = _written(sch, nest, last, block) if is_prefetched else None
    if written:
        chunk = sch.get(nest.chunks) if nest.chunks else None
        lines = block.rows * TILE * nest.vectors
        ahead = lambda inner: _with_prefetches(inner, written, lines, nest.vectors, chunk)  # noqa: E731
        body = tvm_ffi.structural_map(body, (tirx.For, ahead))
    if not nest.is_inside:
        body = _with_epilogue_inside(body, nest.chunks is not None, block.rows * TILE)
    sch.state.replace(sch.get_sref(nest.outer), with_body(loop, body), {})


def _with_epilogue_inside(body: tirx.Stmt, is_chunked: bool, height: int) -> tirx.Stmt:
    """Move the epilogue from the end of a task to the blocks of sums, while they are in L1.

    `height` is the number of rows of a block; those of the last chunk are complete.
    """
    *words, main, epilogue = body.seq
    chunks = main if is_chunked else None
    if chunks:
        *words, main = body_of(chunks)
    total = epilogue.extent
    if not isinstance(total, tirx.IntImm) or int(total) != int(main.extent) * height:
        return body
    part = _rows_of(epilogue, main.loop_var, height)
    if chunks:
        is_last = int64(chunks.loop_var) == int(chunks.extent) - 1
        part = tirx.IfThenElse(is_last, part, None)
    inner = sequence([*words, with_body(main, sequence([main.body, part]))])
    return with_body(chunks, inner) if chunks else inner


def _rows_of(epilogue: tirx.For, block: tirx.Var, height: int) -> tirx.For:
    """The part of the epilogue, a loop over rows, for one block of them."""
    row = tirx.Var("row", "int64")
    place = int64(block) * height + row
    var = epilogue.loop_var
    body = tvm_ffi.structural_map(
        epilogue.body, (tirx.Var, lambda other: place if other.same_as(var) else other)
    )
    return tirx.For(row, int64(0), int64(height), tirx.ForKind.SERIAL, body)


def body_of(loop: tirx.For) -> list[tirx.Stmt]:
    """The statements in a loop."""
    return list(loop.body.seq) if isinstance(loop.body, tirx.SeqStmt) else [loop.body]


def with_body(loop: tirx.For, body: tirx.Stmt) -> tirx.For:
    """The loop with another body."""
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)


def _started(block: SBlock) -> SBlock:
    """The block without initial values: tiles start at zero, or with the sums so far."""
    if block.init is None or not uses_tiles(block.body):
        return block
    axes, buffers = (block.iter_vars, block.reads, block.writes), block.alloc_buffers
    others = (block.match_buffers, block.annotations)
    body = _continued(block.body, _reduced(block.iter_vars))
    return SBlock(*axes, block.name_hint, body, None, buffers, *others)


def _reduced(axes: Sequence[tirx.IterVar]) -> list[tirx.Var]:
    """The axes along which sums are continued: chunks of the input."""
    reduced = [axis for axis in axes if axis.iter_type == tirx.IterVar.CommReduce]
    return [axis.var for axis in reduced if not is_one(axis.dom.extent)]


def _continued(body: tirx.Stmt, chunks: Sequence[tirx.Var]) -> tirx.Stmt:
    """Load the tiles, instead of clearing them, in all chunks but the first."""
    if not chunks:
        return body
    (chunk,) = chunks
    stored = addresses(body, STORE)

    def start(stmt: tirx.Evaluate) -> tirx.Stmt:
        if (tile := tile_of(stmt.value, ZERO)) is None:
            return stmt
        again = tirx.Evaluate(load(tile, stored[tile]))
        return tirx.IfThenElse(chunk == int64(0), stmt, again)

    return tvm_ffi.structural_map(body, (tirx.Evaluate, start))


def _written(sch: Schedule, nest: Nest, last, block: Block) -> Written | None:
    """What the epilogue writes per iteration of `rows`; None unless it is a matrix."""
    epilogue, loops = sch.get(last), sch.get_loops(last)
    first = next(n for n, loop in enumerate(loops) if sch.get(loop).same_as(sch.get(nest.outer)))
    inner = [sch.get(loop).loop_var for loop in loops[first + 1 :]]
    place = [int64(_at_start(value, inner)) for value in _bindings(sch, epilogue)]
    matrix = epilogue.writes[0].source
    if len(place) != 2 or len(matrix.shape) != 2:
        return None
    if not nest.is_inside:
        place[0] = place[0] + int64(sch.get(nest.rows).loop_var) * (block.rows * TILE)
    return Written(matrix, *place)


def _bindings(sch: Schedule, block: SBlock) -> list[Expr]:
    """The values of the block's axes, in terms of loops."""
    found: list[SBlockRealize] = []
    tvm_ffi.structural_walk(sch.mod["main"].body, (SBlockRealize, found.append))
    (realize,) = (realize for realize in found if realize.block.same_as(block))
    return list(realize.iter_values)


def _at_start(value: Expr, loops: Sequence[tirx.Var]) -> Expr:
    """The value in the first iteration of all `loops`."""
    zero = lambda var: tirx.const(0, str(var.ty.dtype))  # noqa: E731
    is_inner = lambda var: any(var.same_as(loop) for loop in loops)  # noqa: E731
    return tvm_ffi.structural_map(
        value, (tirx.Var, lambda var: zero(var) if is_inner(var) else var)
    )


def _with_prefetches(
    loop: tirx.For, written: Written, lines: int, vectors: int, chunks: tirx.For | None
) -> tirx.For:
    """Spread the prefetches over the iterations of the loops over the input."""
    if not multiplies(loop):
        return loop
    step, steps = int64(loop.loop_var), int(loop.extent)
    if chunks:
        step, steps = int64(chunks.loop_var) * steps + step, steps * int(chunks.extent)
    each = -(-lines // steps)
    numbers = [step * each + n for n in range(each)]
    fetches = [written.prefetch(n // vectors, n % vectors) for n in numbers]
    return with_body(loop, tirx.SeqStmt([*fetches, loop.body]))
