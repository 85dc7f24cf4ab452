"""Rows times the weights of the experts that they chose, on a CPU.

Panels of all experts are stacked; only those of experts with rows are read. A task owns a few
panels of one expert. It goes through the expert's rows in register tiles, with one column of 16
outputs per vector; the weights, in any storage, are converted to float32 once per tile. Consecutive
tasks have the same panels of consecutive experts, so that every thread has a share of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from handglass.schedules.isa.register_tiles import LANES, YMM
from handglass.schedules.loops import ceil_div, spatial
from handglass.schedules.rule import CHOSEN, MULTIPLY_ADDS, PATTERN

from .index_type import int64
from .matmul import Dequantize
from .padded import is_one_row

UNROLLED = (4, 2, 1)
"""Inputs per iteration: the largest of these that divides their number."""


@dataclass(frozen=True)
class ExpertShape:
    """The stacked weights of `experts` experts, each (panels * 16 outputs, inputs)."""

    experts: int
    panels: int
    inputs: int
    chosen: int
    """Experts per token."""
    is_first: bool
    """Whether each choice of a token reads the same row, of the token; or a row of its own."""


def expert_matmul(
    x: te.Tensor,
    order: te.Tensor,
    starts: te.Tensor,
    parts: Sequence[te.Tensor],
    read: Callable[[Sequence[tirx.Buffer]], Dequantize],
    shape: ExpertShape,
) -> te.Tensor:
    """x (s, inputs), or (s, chosen * width) with width >= inputs -> (s, chosen * panels * 16).

    `order` and `starts` are those of routing.sorter; `parts` hold the stacked panels, and `read` of
    their buffers gives the float32 weight at (panel, input, lane).
    """
    s = x.shape[0]
    work = [int64(shape.chosen * shape.panels * LANES * shape.inputs), s]
    return te.extern(
        (s, int64(shape.chosen * shape.panels * LANES)),
        [x, order, starts, *parts],
        lambda ins, outs: _Nest(shape, read(ins[3:]), ins, outs[0]).statement(),
        name="expert_matmul",
        dtype="float32",
        attrs={
            PATTERN: "experts",
            MULTIPLY_ADDS: work,
            CHOSEN: [int64(shape.panels * shape.chosen), s],
        },
    )


class _Nest:
    """Emits the statement. Its attributes are constant: sizes and the buffers of the operator."""

    def __init__(
        self, shape: ExpertShape, weight: Dequantize, ins: list[tirx.Buffer], out: tirx.Buffer
    ) -> None:
        self.shape, self.weight, self.out = shape, weight, out
        self.x, self.order, self.starts = ins[:3]
        one = is_one_row(self.x.shape[0])
        self.rows = 1 if one else YMM.rows
        columns = (4, 2, 1) if one else (1,)
        self.columns = next(n for n in columns if shape.panels % n == 0)
        self.unrolled = next(n for n in UNROLLED if shape.inputs % n == 0)
        self.per_token = 1 if shape.is_first else shape.chosen
        self.width = int(self.x.shape[1]) // self.per_token

    def statement(self) -> tirx.Stmt:
        shape = self.shape
        tasks = shape.panels // self.columns * shape.experts
        with IRBuilder() as ib, T.serial(int64(0), int64(tasks)) as number, T.sblock("task"):
            number = spatial(tasks, number)
            T.reads(*(_whole(buffer) for buffer in (self.x, self.order, self.starts)))
            T.writes(_whole(self.out))
            sums = T.sblock_alloc_buffer((self.rows, self.columns, LANES), "float32")
            weight = T.sblock_alloc_buffer((LANES,), "float32")
            chosen = T.sblock_alloc_buffer((self.rows,), "int64")
            expert, panel = number % shape.experts, number // shape.experts * self.columns
            first = self.starts[expert].astype("int64")
            count = self.starts[expert + 1].astype("int64") - first
            with T.serial(int64(0), ceil_div(count, self.rows)) as tile:
                self._choose(chosen, first, count, tile)
                self._clear(sums)
                self._multiply(sums, weight, chosen, expert * shape.panels + panel)
                self._store(sums, chosen, panel)
        return ib.get()

    def _choose(self, chosen: tirx.Buffer, first: Expr, count: Expr, tile: Expr) -> None:
        """The choices of a tile; its last rows may repeat the last choice."""
        for r in range(self.rows):
            at = first + tirx.min(tile * self.rows + r, count - 1)
            choice = self.order[at // self.shape.chosen, at % self.shape.chosen]
            T.buffer_store(chosen, choice.astype("int64"), [r])

    def _clear(self, sums: tirx.Buffer) -> None:
        zero = tirx.const(0.0, "float32")
        for r, q in self._vectors():
            with _lanes() as lane:
                T.buffer_store(sums, zero, [r, q, lane])

    def _multiply(
        self, sums: tirx.Buffer, weight: tirx.Buffer, chosen: tirx.Buffer, panel: Expr
    ) -> None:
        with T.serial(int64(0), int64(self.shape.inputs // self.unrolled)) as outer:
            for inner in range(self.unrolled):
                k = outer * self.unrolled + inner
                for q in range(self.columns):
                    with _lanes() as lane:
                        T.buffer_store(weight, self.weight(panel + q, k, lane), [lane])
                    for r in range(self.rows):
                        with _lanes() as lane:
                            product = self._input(chosen[r], k) * weight[lane]
                            T.buffer_store(sums, sums[r, q, lane] + product, [r, q, lane])

    def _input(self, choice: Expr, k: Expr) -> Expr:
        token = choice // self.shape.chosen
        if self.shape.is_first:
            return self.x[token, k]
        return self.x[token, choice % self.shape.chosen * self.width + k]

    def _store(self, sums: tirx.Buffer, chosen: tirx.Buffer, panel: Expr) -> None:
        outputs = self.shape.panels * LANES
        for r, q in self._vectors():
            token, choice = chosen[r] // self.shape.chosen, chosen[r] % self.shape.chosen
            with _lanes() as lane:
                column = choice * outputs + (panel + q) * LANES + lane
                T.buffer_store(self.out, sums[r, q, lane], [token, column])

    def _vectors(self) -> list[tuple[int, int]]:
        return [(r, q) for r in range(self.rows) for q in range(self.columns)]


def _lanes():
    return T.vectorized(int64(0), int64(LANES))


def _whole(buffer: tirx.Buffer) -> tirx.BufferRegion:
    return buffer[tuple(slice(0, size) for size in buffer.shape)]
