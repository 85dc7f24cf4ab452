"""Rows times the weights of the experts that they chose: the loop nest for a CPU.

Panels of all experts are stacked; only those of experts with rows are read. A task owns a few
panels of one expert. It goes through the expert's rows in register tiles; the weights, in any
storage, are converted to float32 once per tile. Consecutive tasks have the same panels of
consecutive experts, so that every thread has a share of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import SBlock
from tvm.tirx.script.builder import ir as T

from ..isa.register_tiles import LANES
from ..loops import ceil_div, f32, int64, spatial
from ..replace_nest import renamed

EXPERTS = "expert_matmul"
"""Name of the block of the nest."""
SHAPE = "handglass.experts"
"""Block annotation of the nest: `ExpertShape` as a list of numbers."""

Weight = Callable[[Expr, Expr, Expr], Expr]
"""The float32 weight at (panel, input, lane)."""


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

    @property
    def numbers(self) -> list[tirx.IntImm]:
        """As an annotation."""
        fields = self.experts, self.panels, self.inputs, self.chosen, int(self.is_first)
        return [int64(n) for n in fields]

    @classmethod
    def of(cls, block: SBlock) -> ExpertShape:
        """Those of a nest."""
        experts, panels, inputs, chosen, is_first = map(int, block.annotations[SHAPE])
        return cls(experts, panels, inputs, chosen, bool(is_first))


@dataclass(frozen=True)
class ExpertBlocking:
    """The register tile of a nest."""

    rows: int
    columns: int
    """Panels side by side, a divisor of an expert's panels."""
    unrolled: int
    """Inputs per iteration, a divisor of their number."""


@dataclass(frozen=True)
class ExpertOperands:
    """The arguments of the kernel."""

    x: tirx.Buffer  # (s, inputs), or (s, chosen * width) with width >= inputs
    order: tirx.Buffer  # (s, chosen): the choices by expert
    starts: tirx.Buffer  # (experts + 1,): where those of an expert begin
    parts: Sequence[tirx.Buffer]  # the stacked panels
    out: tirx.Buffer  # (s, chosen * panels * 16)
    weight: Weight

    @classmethod
    def of(cls, block: SBlock) -> ExpertOperands:
        """Those of a nest, whose tasks read and write them in this order."""
        task = task_of(block)
        x, order, starts, *parts = (region.source for region in task.reads)
        (out,) = (region.source for region in task.writes)
        return cls(x, order, starts, parts, out, _weight_of(block))


def task_of(block: SBlock) -> SBlock:
    """The block of a task in that of a nest."""
    found: list[SBlock] = []
    tvm_ffi.structural_walk(block.body, (SBlock, found.append))
    return found[0]


def _weight_of(block: SBlock) -> Weight:
    """What the nest of a block converts, as a function of its place.

    The nest binds the first panel of a task, then each input, and first uses both for a weight.
    """
    stores: list[tirx.BufferStore] = []
    bound: list[tirx.Bind] = []
    tvm_ffi.structural_walk(block.body, (tirx.BufferStore, stores.append))
    tvm_ffi.structural_walk(block.body, (tirx.Bind, bound.append))
    panel, k = bound[0].var, bound[1].var
    found = next(store for store in stores if _uses(store.value, k))
    (lane,) = found.indices
    return lambda *place: renamed(found.value, [panel, k, lane], place)


def _uses(value: Expr, variable: tirx.Var) -> bool:
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(value, (tirx.Var, found.append))
    return any(variable.same_as(var) for var in found)


def write_experts(shape: ExpertShape, operands: ExpertOperands, blocking: ExpertBlocking) -> None:
    """Emit the loop over the tasks, in a block that reads and writes the operands."""
    given = operands
    with T.sblock(EXPERTS):
        T.reads(*map(_whole, (given.x, given.order, given.starts, *given.parts)))
        T.writes(_whole(given.out))
        write_tasks(shape, operands, blocking)


def write_tasks(shape: ExpertShape, operands: ExpertOperands, blocking: ExpertBlocking) -> None:
    """Emit the loop over the tasks."""
    _Nest(shape, operands, blocking).emit()


class _Nest:
    """Emits the statement. Its attributes are constant."""

    def __init__(
        self, shape: ExpertShape, operands: ExpertOperands, blocking: ExpertBlocking
    ) -> None:
        self.shape, self.given = shape, operands
        self.rows, self.columns = blocking.rows, blocking.columns
        self.unrolled = blocking.unrolled
        self.per_token = 1 if shape.is_first else shape.chosen
        self.width = int(operands.x.shape[1]) // self.per_token

    def emit(self) -> None:
        shape, given = self.shape, self.given
        tasks = shape.panels // self.columns * shape.experts
        with T.serial(int64(0), int64(tasks)) as number, T.sblock("task"):
            number = spatial(tasks, number)
            T.reads(*map(_whole, (given.x, given.order, given.starts, *given.parts)))
            T.writes(_whole(given.out))
            sums = T.sblock_alloc_buffer((self.rows, self.columns, LANES), "float32")
            weight = T.sblock_alloc_buffer((LANES,), "float32")
            chosen = T.sblock_alloc_buffer((self.rows,), "int64")
            expert, column = number % shape.experts, number // shape.experts * self.columns
            panel = T.Bind(expert * shape.panels + column)
            first = given.starts[expert].astype("int64")
            count = given.starts[expert + 1].astype("int64") - first
            with T.serial(int64(0), ceil_div(count, self.rows)) as tile:
                self._choose(chosen, first, count, tile)
                self._clear(sums)
                self._multiply(sums, weight, chosen, panel)
                self._store(sums, chosen, column)

    def _choose(self, chosen: tirx.Buffer, first: Expr, count: Expr, tile: Expr) -> None:
        """The choices of a tile; its last rows may repeat the last choice."""
        each = self.shape.chosen
        for r in range(self.rows):
            at = first + tirx.min(tile * self.rows + r, count - 1)
            choice = self.given.order[at // each, at % each]
            T.buffer_store(chosen, choice.astype("int64"), [r])

    def _clear(self, sums: tirx.Buffer) -> None:
        for r, q in self._vectors():
            with _lanes() as lane:
                T.buffer_store(sums, f32(0), [r, q, lane])

    def _multiply(
        self, sums: tirx.Buffer, weight: tirx.Buffer, chosen: tirx.Buffer, panel: Expr
    ) -> None:
        with T.serial(int64(0), int64(self.shape.inputs // self.unrolled)) as outer:
            for inner in range(self.unrolled):
                k = T.Bind(outer * self.unrolled + inner)
                for q in range(self.columns):
                    with _lanes() as lane:
                        T.buffer_store(weight, self.given.weight(panel + q, k, lane), [lane])
                    for r in range(self.rows):
                        with _lanes() as lane:
                            product = self._input(chosen[r], k) * weight[lane]
                            T.buffer_store(sums, sums[r, q, lane] + product, [r, q, lane])

    def _input(self, choice: Expr, k: Expr) -> Expr:
        token = choice // self.shape.chosen
        if self.shape.is_first:
            return self.given.x[token, k]
        return self.given.x[token, choice % self.shape.chosen * self.width + k]

    def _store(self, sums: tirx.Buffer, chosen: tirx.Buffer, column: Expr) -> None:
        outputs = self.shape.panels * LANES
        for r, q in self._vectors():
            token, choice = chosen[r] // self.shape.chosen, chosen[r] % self.shape.chosen
            with _lanes() as lane:
                place = choice * outputs + (column + q) * LANES + lane
                T.buffer_store(self.given.out, sums[r, q, lane], [token, place])

    def _vectors(self) -> list[tuple[int, int]]:
        return [(r, q) for r in range(self.rows) for q in range(self.columns)]


def _lanes():
    return T.vectorized(int64(0), int64(LANES))


def _whole(buffer: tirx.Buffer) -> tirx.BufferRegion:
    return buffer[tuple(slice(0, size) for size in buffer.shape)]
