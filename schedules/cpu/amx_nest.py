"""The loop nest of a task of a tile matmul, as no schedule primitive writes it.

    for each block of rows:
        for each step of the input:
            multiply tiles; fetch what comes next; some rows of the epilogue of the block before
        store the sums
    the epilogue of the last block

Tiles start at zero, so the sums in memory need no initial value. They are in a buffer of the task:
one block of them is written while the one before is read, since vectors have nothing else to do
while tiles multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm import tirx
from tvm.ir import Expr, TensorLoad, TensorRegion
from tvm.s_tir import SBlock, SBlockRealize, Schedule

from ..isa.amx_instructions import multiplies, uses_tiles
from ..isa.amx_intrinsics import Block
from ..isa.streaming_store import importing
from ..loops import int64, sequence
from ..replace_nest import renamed
from .amx_epilogue import Epilogue
from .amx_fetch import READ, WRITE, NextWeights, Part, read_like

RESULTS = (PLAIN, FETCHED, PAST_CACHES) = (0, 1, 2)
"""How results are stored: through the caches, if their lines were fetched before or not; or past
them, which takes whole lines. Except with PLAIN, other matrices that the epilogue reads are
fetched."""


@dataclass(frozen=True)
class Pace:
    """What happens while the tiles multiply."""

    overlapped: bool
    """The epilogue of the block before is computed."""
    results: int
    """One of RESULTS."""
    ahead: bool
    """The weights of the next task, which are an input, are fetched."""


def complete(sch: Schedule, rows, block: Block, pace: Pace) -> None:
    """Write the nest of the loop `rows`, which iterates over blocks of sums and their epilogues.

    No primitive applies to the blocks of the loop afterwards.
    """
    loop = sch.get(rows)
    *before, product, stmt = loop.body.seq
    nest = _Nest.of(loop, product, block)
    plain = Epilogue.of(nest.with_sums(stmt), loop.loop_var)
    streamed = plain.streamed() if pace.results == PAST_CACHES else None
    parts = _parts(loop, stmt, streamed is not None) if pace.results != PLAIN else []
    weights = nest.next_weights(sch.mod["main"].params) if pace.ahead else None
    fetches = _Fetches(block, loop, parts, weights)
    blocks = _overlapped if pace.overlapped and plain.height > 1 else _in_turn
    body = blocks(before, nest, streamed or plain, fetches)
    body = importing(body) if streamed else body
    task = SBlock([], [], [], "task", body, alloc_buffers=[nest.sums])
    sch.state.replace(sch.get_sref(rows), SBlockRealize([], True, task), {})


@dataclass(frozen=True)
class _Fetches:
    """What is fetched in the loop over the input."""

    block: Block
    blocks: tirx.For
    parts: list[Part]
    weights: NextWeights | None

    def lines(self, inner: tirx.For) -> list[tirx.Stmt]:
        """The fetches of an iteration of the loop."""
        steps, step = int(inner.extent), int64(inner.loop_var)
        lines = [line for part in self.parts for line in part.lines(self.block, step, steps)]
        number, numbers = self.blocks.loop_var, int(self.blocks.extent)
        return lines + list(
            self.weights.lines(number, numbers, step, steps) if self.weights else []
        )


def _in_turn(
    before: list[tirx.Stmt], nest: _Nest, epilogue: Epilogue, fetches: _Fetches
) -> tirx.Stmt:
    """The epilogue of a block follows its products."""
    multiply = nest.multiply(lambda loop: sequence([*fetches.lines(loop), loop.body]))
    whole = epilogue.rows(int64(0), epilogue.height, nest.number)
    return nest.blocks(sequence([*before, multiply, whole]))


def _overlapped(
    before: list[tirx.Stmt], nest: _Nest, epilogue: Epilogue, fetches: _Fetches
) -> tirx.Stmt:
    """The epilogue of a block is computed among the products of the next one."""

    def body(loop: tirx.For) -> tirx.Stmt:
        rows = _rows_before(epilogue, nest.number, int64(loop.loop_var), int(loop.extent))
        return sequence([*fetches.lines(loop), loop.body, rows])

    blocks = nest.blocks(sequence([*before, nest.multiply(body)]))
    return sequence([blocks, epilogue.rows(int64(0), epilogue.height, nest.count - 1)])


def _rows_before(epilogue: Epilogue, number: tirx.Var, step: Expr, steps: int) -> tirx.Stmt:
    """The rows of the block before that belong to one of `steps` iterations."""
    each = next(n for n in range(1, epilogue.height + 1) if _fits(epilogue.height, n, steps))
    first = step * each
    rows = epilogue.rows(first, each, number - 1)
    return tirx.IfThenElse(tirx.all(number > 0, first < epilogue.height), rows, None)


def _fits(height: int, each: int, steps: int) -> bool:
    return height % each == 0 and each * steps >= height


@dataclass(frozen=True)
class _Nest:
    """The products of the blocks of a task, and the buffer of their sums."""

    product: SBlockRealize
    tiles: tirx.Buffer
    """The sums of all blocks, as the schedule knows them."""
    weight: TensorRegion
    """The weights of the task."""
    sums: tirx.Buffer
    """(2, panels, row tiles, 16, 16): those of two blocks."""
    row: Expr
    """The first row tile of the current block."""
    number: tirx.Var
    """The current block."""
    count: Expr
    """Blocks of the task."""

    @classmethod
    def of(cls, loop: tirx.For, product: tirx.Stmt, block: Block) -> _Nest:
        while isinstance(product, tirx.For):  # a single step or panel
            product = renamed(product.body, [product.loop_var], [product.min])
        realize = SBlockRealize(product.iter_values, True, product.block)
        (written,), weight = product.block.writes, product.block.reads[-1]
        tiles, row = written.source, _bound(product, written.region[1].min)
        inner = [int64(extent) for extent in tiles.shape[2:]]
        shape = (int64(2), int64(block.panels), int64(block.rows), *inner)
        sums = tirx.decl_buffer(shape, tiles.dtype, "sums")
        first = renamed(row, [loop.loop_var], [int64(0)])
        left = (int64(tiles.shape[1]) - first + (block.rows - 1)) // block.rows
        count = tirx.min(int64(loop.extent), left)
        return cls(realize, tiles, weight, sums, row, loop.loop_var, count)

    @property
    def panel(self) -> Expr:
        """The first panel of the task."""
        return self._inside(_bound(self.product, self.weight.region[0].min))

    def _inside(self, panel: Expr) -> Expr:
        """The first panel of a task, without those beyond the last one.

        The last task of an odd number of panels computes one that another task computes as well.
        """
        there, taken = int(self.weight.source.shape[0]), int(self.weight.region[0].extent)
        is_whole = int(self.tiles.shape[0]) == there
        return panel if is_whole else tirx.min(panel, int64(there - taken))

    def blocks(self, body: tirx.Stmt) -> tirx.For:
        """The loop over the blocks of the task."""
        return tirx.For(self.number, int64(0), self.count, tirx.ForKind.SERIAL, body)

    def multiply(self, added: Callable[[tirx.For], tirx.Stmt]) -> tirx.Stmt:
        """The products of the current block, with other bodies for the loop over the input."""

        def steps(loop: tirx.For) -> tirx.For:
            if not multiplies(loop):
                return loop
            return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, added(loop))

        return tvm_ffi.structural_map(self.with_sums(self.product), (tirx.For, steps))

    def with_sums(self, stmt: tirx.Stmt) -> tirx.Stmt:
        """The statement with the buffer of the task in place of all sums."""
        half = self.number % 2

        def region(old: TensorRegion) -> TensorRegion:
            if old.source.same_as(self.tiles):
                block = (slice(half, half + 1), *map(_whole, self.sums.shape[1:]))
                return self.sums[block]
            if old.source.same_as(self.weight.source):
                panel, *others = old.region
                first = self._inside(int64(panel.min))
                inner = [slice(r.min, r.min + r.extent) for r in others]
                at = (slice(first, first + panel.extent), *inner)
                return old.source[at]
            return old

        def load(old: TensorLoad) -> Expr:
            if not old.source.same_as(self.tiles):
                return old
            panel, row, i, j = map(int64, old.indices)
            return self.sums[half, panel - self.panel, row - self.row, i, j]

        callbacks = ((TensorLoad, load), (TensorRegion, region), (SBlock, _without_init))
        return tvm_ffi.structural_map(stmt, callbacks)

    def next_weights(self, inputs: Sequence[tirx.Var]) -> NextWeights | None:
        """The weights to fetch; None if the task computes them."""
        weight = self.weight.source
        if not any(weight.same_as(given) for given in inputs):
            return None
        return NextWeights(weight, self.panel, int(self.weight.region[0].extent))


def _bound(realize: SBlockRealize, value: Expr) -> Expr:
    """The value, of the axes of a block, in terms of loops."""
    axes = [axis.var for axis in realize.block.iter_vars]
    values = zip(axes, realize.iter_values, strict=True)
    return int64(renamed(value, axes, [value.astype(axis.ty.dtype) for axis, value in values]))


def _whole(extent: Expr) -> slice:
    return slice(int64(0), extent)


def _without_init(block: SBlock) -> SBlock:
    if block.init is None or not uses_tiles(block.body):
        return block
    axes, buffers = (block.iter_vars, block.reads, block.writes), block.alloc_buffers
    others = (block.match_buffers, block.annotations)
    return SBlock(*axes, block.name_hint, block.body, None, buffers, *others)


def _parts(loop: tirx.For, stmt: tirx.Stmt, is_streamed: bool) -> list[Part]:
    """What an epilogue reads and writes through the caches per iteration of `loop`, if it writes a
    matrix."""
    found: list[SBlockRealize] = []
    tvm_ffi.structural_walk(stmt, (SBlockRealize, found.append))
    loops: list[tirx.For] = []
    tvm_ffi.structural_walk(stmt, (tirx.For, loops.append))
    realize = found[0]
    store = realize.block.body
    if not isinstance(store, tirx.BufferStore) or len(store.indices) != 2:
        return []
    zeros = [tirx.const(0, str(inner.loop_var.ty.dtype)) for inner in loops]
    inner = [loop.loop_var for loop in loops]
    row, column = (renamed(_bound(realize, at), inner, zeros) for at in store.indices)
    written = [] if is_streamed else [Part(store.buffer, row, column, WRITE)]
    return [*written, *(Part(matrix, row, column, READ) for matrix in read_like(store))]
