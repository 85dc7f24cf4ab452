"""Steps that every schedule of register tiles takes: divisors, epilogues, clearing the sums."""

from __future__ import annotations

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize, Schedule

from .choices import Choices
from .rule import blocks

VECTOR = 16
"""Columns that an epilogue handles at once."""
ROW_BLOCKS = (4, 8, 16, 32, 64)
"""Tiles of rows that a task walks down before the next task takes them."""
ALL_ROWS = 1 << 16
OFFERED_ROWS = (*ROW_BLOCKS, ALL_ROWS)


def is_one(extent) -> bool:
    """Whether a loop is known to run once."""
    return isinstance(extent, tirx.IntImm) and int(extent) == 1


def divisors(sch: Schedule, loop, candidates: tuple[int, ...], unit: int = 1) -> list[int]:
    """Those of `candidates` that, times `unit`, divide the loop: a rest would cost a condition."""
    extent = int(sch.get(loop).extent)
    return [n for n in candidates if extent % (n * unit) == 0]


def settled(sch: Schedule, value) -> int:
    """The number behind a choice; for choices that decide what is done, not only how often."""
    return value if isinstance(value, int) else int(sch.get(value))


def in_row_blocks(sch: Schedule, task, rows, choices: Choices) -> tuple:
    """The loops over panels and over tiles of rows, in this order: all rows for a task, or blocks
    of so many that they stay in the cache while the tasks of all panels read them."""
    size = settled(sch, choices.pick(sch, "row_block", OFFERED_ROWS, ALL_ROWS))
    if size == ALL_ROWS:
        sch.reorder(task, rows)
        return task, rows
    blocks, rows = sch.split(rows, [None, size])
    sch.reorder(blocks, task, rows)
    return sch.fuse(blocks, task), rows


def inline_epilogue(sch: Schedule, block):
    """Fold all element-wise stages behind `block` into the last one and return that."""
    names = [sch.get(b).name_hint for b in blocks(sch)]
    after = names[names.index(sch.get(block).name_hint) + 1 :]
    for name in after[:-1]:
        sch.compute_inline(sch.get_sblock(name))
    return sch.get_sblock(after[-1])


def vectorize_last(sch: Schedule, last) -> None:
    """The epilogue tile: rows stay loops, columns become vectors."""
    column = sch.get_loops(last)[-1]
    extent = sch.get(column).extent
    if isinstance(extent, tirx.IntImm) and int(extent) % VECTOR == 0:
        column = sch.split(column, [None, VECTOR])[1]
    if isinstance(extent, tirx.IntImm):
        sch.vectorize(column)


def tensorize(sch: Schedule, block, loop, name: str) -> None:
    """Put the intrinsic in the place of `loop` and all below it, which are the block's.

    The last block of rows may be short: that condition goes to a block around, because an intrinsic
    takes none. Without one the code is better with no such block: in a row of bytes for SMMLA the
    sums would go through the stack.
    """
    if _is_conditional(sch, block):
        sch.blockize(loop)
        loop = sch.get_loops(block)[0]
    sch.tensorize(loop, name)


def _is_conditional(sch: Schedule, block) -> bool:
    """Whether something decides if the block runs at all."""
    found: list[SBlockRealize] = []
    tvm_ffi.structural_walk(sch.mod["main"].body, (SBlockRealize, found.append))
    (realize,) = [r for r in found if r.block.same_as(sch.get(block))]
    return not is_one(realize.predicate)


def clear(sch: Schedule, block, reduction, depth: int) -> None:
    """Zero the tile before the loop `reduction`; its `depth` innermost loops are registers."""
    keep_in_registers(sch, sch.decompose_reduction(block, reduction), depth)


def keep_in_registers(sch: Schedule, block, depth: int) -> None:
    """The `depth` innermost loops go over a tile of vectors, each with a place of its own."""
    *rows, lane = sch.get_loops(block)[-depth:]
    sch.vectorize(lane)
    for row in rows:
        sch.unroll(row)
