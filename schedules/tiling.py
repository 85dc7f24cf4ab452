"""Common steps of register-tile schedules: divisors, epilogue fusion, clearing the sums."""

from __future__ import annotations

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize, Schedule

from .choices import Choices
from .rule import blocks

VECTOR = 16
"""Columns that an epilogue processes at once."""
ROW_BLOCKS = (4, 8, 16, 32, 64)
"""Offered numbers of row tiles that a task processes before the next panels take the same rows."""
ALL_ROWS = 1 << 16
OFFERED_ROWS = (*ROW_BLOCKS, ALL_ROWS)
UNPACKED = (ONCE, PER_TILE) = (0, 1)
"""Stored weights are converted once for all rows of a task, or again for each of its row tiles."""


def is_one(extent) -> bool:
    """Whether an extent is the constant 1."""
    return isinstance(extent, tirx.IntImm) and int(extent) == 1


def divisors(sch: Schedule, loop, candidates: tuple[int, ...], unit: int = 1) -> list[int]:
    """The candidates that, times `unit`, divide the loop: a ragged tail would need a condition."""
    extent = int(sch.get(loop).extent)
    return [n for n in candidates if extent % (n * unit) == 0]


def settled(sch: Schedule, value) -> int:
    """The value of a choice as an int, for choices that determine the structure of the schedule."""
    return value if isinstance(value, int) else int(sch.get(value))


def in_row_blocks(sch: Schedule, task, rows, choices: Choices) -> tuple:
    """Order the loops over panels and row tiles, and return them in this order.

    A task processes all rows, or a block of rows that stays in the cache while the tasks of all
    panels read it.
    """
    size = settled(sch, choices.pick(sch, "row_block", OFFERED_ROWS, ALL_ROWS))
    if size == ALL_ROWS:
        sch.reorder(task, rows)
        return task, rows
    blocks, rows = sch.split(rows, [None, size])
    sch.reorder(blocks, task, rows)
    return sch.fuse(blocks, task), rows


def inline_epilogue(sch: Schedule, block):
    """Inline all element-wise stages after `block` into the last one and return that."""
    names = [sch.get(b).name_hint for b in blocks(sch)]
    after = names[names.index(sch.get(block).name_hint) + 1 :]
    for name in after[:-1]:
        sch.compute_inline(sch.get_sblock(name))
    return sch.get_sblock(after[-1])


def vectorize_last(sch: Schedule, last) -> None:
    """Vectorise the columns of the epilogue tile; its rows stay loops."""
    column = sch.get_loops(last)[-1]
    extent = sch.get(column).extent
    if isinstance(extent, tirx.IntImm) and int(extent) % VECTOR == 0:
        column = sch.split(column, [None, VECTOR])[1]
    if isinstance(extent, tirx.IntImm):
        sch.vectorize(column)


def tensorize(sch: Schedule, block, loop, name: str) -> None:
    """Replace `loop` and all loops below it, which belong to the block, by the intrinsic `name`.

    The last block of rows may be partial. Its predicate moves to an outer block, because an
    intrinsic accepts none. Without a predicate no outer block is added: for one row of bytes and
    SMMLA, it would make the sums go through the stack.
    """
    if _is_conditional(sch, block):
        sch.blockize(loop)
        loop = sch.get_loops(block)[0]
    sch.tensorize(loop, name)


def _is_conditional(sch: Schedule, block) -> bool:
    """Whether the block has a predicate."""
    found: list[SBlockRealize] = []
    tvm_ffi.structural_walk(sch.mod["main"].body, (SBlockRealize, found.append))
    (realize,) = [r for r in found if r.block.same_as(sch.get(block))]
    return not is_one(realize.predicate)


def clear(sch: Schedule, block, reduction, depth: int) -> None:
    """Zero the tile before the loop `reduction`; its `depth` innermost loops span registers."""
    keep_in_registers(sch, sch.decompose_reduction(block, reduction), depth)


def keep_in_registers(sch: Schedule, block, depth: int) -> None:
    """Vectorise and unroll the `depth` innermost loops, so that each vector has its register."""
    *rows, lane = sch.get_loops(block)[-depth:]
    sch.vectorize(lane)
    for row in rows:
        sch.unroll(row)
