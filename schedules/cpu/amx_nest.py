"""Changes to the loop nest of a tile matmul that no schedule primitive makes.

Tiles start at zero, so the sums in memory need no initial value. And the lines that the epilogue
will write are fetched while the tiles multiply: stores that wait for their lines take as long as
the products themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import SBlock, SBlockRealize, Schedule
from tvm.script import tirx as T

from ..isa.amx_instructions import TILE, uses_tiles
from ..isa.amx_intrinsics import Block
from ..loops import int64


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
        name = T.llvm_lookup_intrinsic_id("llvm.prefetch.p0")
        hints = (tirx.const(value, "int32") for value in (1, 3, 1))  # write, all caches, data
        address = T.address_of(self.matrix[place])
        return tirx.Evaluate(T.call_llvm_intrin(name, address, *hints, dtype="void"))


def complete(sch: Schedule, rows, last, block: Block, is_prefetched: bool) -> None:
    """Drop the initial values of the sums and add the prefetches, below the loop `rows`.

    `last` is the block of the epilogue. No primitive applies to the blocks of the loop afterwards.
    """
    loop = sch.get(rows)
    body = tvm_ffi.structural_map(loop.body, (SBlock, _without_init))
    written = _written(sch, rows, last) if is_prefetched else None
    if written:
        ahead = lambda inner: _with_prefetches(inner, written, block)  # noqa: E731
        body = tvm_ffi.structural_map(body, (tirx.For, ahead))
    changed = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)
    sch.state.replace(sch.get_sref(rows), changed, {})


def _without_init(block: SBlock) -> SBlock:
    if block.init is None or not uses_tiles(block.body):
        return block
    axes, buffers = (block.iter_vars, block.reads, block.writes), block.alloc_buffers
    others = (block.match_buffers, block.annotations)
    return SBlock(*axes, block.name_hint, block.body, None, buffers, *others)


def _written(sch: Schedule, rows, last) -> Written | None:
    """What the epilogue writes per iteration of `rows`; None unless it is a matrix."""
    epilogue, loops = sch.get(last), sch.get_loops(last)
    first = next(n for n, loop in enumerate(loops) if sch.get(loop).same_as(sch.get(rows)))
    inner = [sch.get(loop).loop_var for loop in loops[first + 1 :]]
    place = [int64(_at_start(value, inner)) for value in _bindings(sch, epilogue)]
    matrix = epilogue.writes[0].source
    if len(place) != 2 or len(matrix.shape) != 2:
        return None
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


def _with_prefetches(loop: tirx.For, written: Written, block: Block) -> tirx.For:
    """Spread the prefetches over the iterations of the loop over the input."""
    if not uses_tiles(loop.body) or _has_loops(loop.body):
        return loop
    each = -(-block.rows * TILE * block.panels // int(loop.extent))
    numbers = [int64(loop.loop_var) * each + n for n in range(each)]
    fetches = [written.prefetch(n // block.panels, n % block.panels) for n in numbers]
    body = tirx.SeqStmt([*fetches, loop.body])
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)


def _has_loops(stmt: tirx.Stmt) -> bool:
    found: list[tirx.For] = []
    tvm_ffi.structural_walk(stmt, (tirx.For, found.append))
    return bool(found)
