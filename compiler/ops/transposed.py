"""Transposition of 16 vectors of 16 words in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from handglass.schedules.cpu.bf16_attention_nest import put
from handglass.schedules.isa.amx_instructions import TILE
from handglass.schedules.loops import int64

WORDS = "uint32x16"


def transpose(rows: Sequence[Expr], store: Callable[[int, Expr], None]) -> None:
    """Call store(i, column i of the rows) for each column.

    In four steps, each of which exchanges halves, quarters and so on of two rows: 64 shuffles.
    The rows between two steps are in local buffers with constant indices, which are registers.
    """
    for distance in (8, 4, 2, 1):
        turned = [_exchanged(rows, i, distance) for i in range(TILE)]
        if distance == 1:
            for i, row in enumerate(turned):
                store(i, row)
            return
        kept = T.sblock_alloc_buffer((TILE, TILE), "uint32")
        for i, row in enumerate(turned):
            put(kept, row, i)
        rows = [kept.vload([int64(i), int64(0)], WORDS) for i in range(TILE)]


def _exchanged(rows: Sequence[Expr], i: int, distance: int) -> Expr:
    """Row i: its own lanes where bit `distance` of the lane is that of i, else its partner's."""
    order = [
        lane if lane & distance == i & distance else TILE + (lane ^ distance)
        for lane in range(TILE)
    ]
    partner = rows[i ^ distance]
    return tirx.Shuffle([rows[i], partner], [tirx.const(n, "int32") for n in order])
