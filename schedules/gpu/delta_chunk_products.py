"""The products of the delta rule in chunks: each query and key of a chunk times the state, and
times each key of the chunk.

A thread computes a register tile: some rows for a vector of columns of the state and for a few
keys, so each row that it loads is used for all of them. The keys that are summed over are split
into parts; the threads of the other parts then hand over their sums through shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..loops import int64
from .delta_chunk_shape import Chunks
from .delta_task import KEYS, new_buffer
from .short_vectors import broadcast, element, f32, ramp


class Products:
    """Emits the work of thread `number`.

    After `compute`, a barrier and `exchange`, the first `kept_rows` rows of `recalled` and
    `matched` are whole sums: of row `row(n)` times the state, and times the key of `earlier(m)`.
    """

    def __init__(self, shape: Chunks, number: Expr, pair: tirx.Buffer, state: tirx.Buffer) -> None:
        self.shape, self.pair, self.state = shape, pair, state
        self.vector, self.group = number % shape.vectors, number // shape.vectors
        self.part, self.first = self.group // shape.row_groups, self.group % shape.row_groups
        rows, lanes, keys = shape.own_rows, shape.lanes, shape.key_lanes
        self.recalled = new_buffer("local", rows, width=lanes)
        self.matched = new_buffer("local", rows, shape.matches)
        self.left = new_buffer("local", rows, width=keys)
        self.other = new_buffer("local", shape.matches, width=keys)
        self.right = new_buffer("local", 1, width=lanes)
        if shape.parts > 1:
            others = shape.parts - 1
            # Of numbers: TVM reuses its memory for the changes, which are read one by one.
            self.recalled_there = new_buffer("shared", others, shape.rows, shape.columns)
            self.matched_there = new_buffer("shared", others, shape.rows, shape.positions)

    # --- places ---

    def row(self, n: int) -> Expr:
        """The n-th row of the thread; each part begins with those that it keeps."""
        own, shape = self.shape.own_rows, self.shape
        if shape.parts == 1 or n < shape.kept_rows:
            turn = self.part * shape.kept_rows + n
        else:
            turn = (self.part * shape.kept_rows + n) % own
        return turn * shape.row_groups + self.first

    def columns(self) -> Expr:
        """The thread's vector of columns."""
        return ramp(self.vector * self.shape.lanes, self.shape.lanes)

    def earlier(self, m: int) -> Expr:
        """The m-th earlier position of the thread."""
        return m * self.shape.vectors + self.vector

    def earlier_exists(self, m: int) -> Expr | None:
        """The condition that there is such a position; None if there always is."""
        whole = (m + 1) * self.shape.vectors <= self.shape.positions
        return None if whole else self.earlier(m) < self.shape.positions

    @contextmanager
    def whole_rows(self, kind: int) -> Iterator[list[tuple[int, Expr]]]:
        """Number and position of the rows of queries or keys of which the thread has the sums.

        The body may be in a condition, so it must not contain a barrier.
        """
        shape = self.shape
        each, c = range(shape.kept_rows), shape.positions
        if shape.parts == 1 and shape.kept_rows > 1:
            half = shape.kept_rows // 2
            yield [(kind * half + n, n * shape.row_groups + self.first) for n in range(half)]
        else:
            with where(tirx.EQ(self.row(0) // c, int64(kind))):
                yield [(n, self.row(n) - kind * c) for n in each]

    # --- steps ---

    def compute(self) -> None:
        """The sums of the thread's part of the keys, and those that other threads need."""
        shape = self.shape
        busy = shape.row_groups * shape.parts
        with where(self.group < busy if shape.groups > busy else None):
            for n in range(shape.own_rows):
                T.buffer_store(self.recalled, f32(0, shape.lanes), [n])
                for m in range(shape.matches):
                    T.buffer_store(self.matched, f32(0), [n, m])
            with T.serial(int64(0), int64(shape.key_vectors // shape.parts)) as step:
                self._multiply(step * shape.parts + self.part)
            for turn in range(1, shape.parts):
                self._hand_over(turn)

    def _multiply(self, k: Expr) -> None:
        """Add the products of vector k of the keys."""
        shape, rows = self.shape, range(self.shape.own_rows)
        for n in rows:
            T.buffer_store(self.left, self.pair[self.row(n) * shape.key_stride + k], [n])
        for m in range(shape.matches):
            row = KEYS * shape.positions + tirx.min(self.earlier(m), int64(shape.positions - 1))
            T.buffer_store(self.other, self.pair[row * shape.key_stride + k], [m])
        for lane in range(shape.key_lanes):
            column = self.state[k * shape.key_lanes + lane, self.vector]
            T.buffer_store(self.right, column, [0])
            for n in rows:
                left = element(self.left[n], lane, shape.key_lanes)
                sums = self.recalled[n] + broadcast(left, shape.lanes) * self.right[0]
                T.buffer_store(self.recalled, sums, [n])
                for m in range(shape.matches):
                    other = element(self.other[m], lane, shape.key_lanes)
                    T.buffer_store(self.matched, self.matched[n, m] + left * other, [n, m])

    def _hand_over(self, turn: int) -> None:
        """Store the sums of rows that another part keeps."""
        kept = self.shape.kept_rows
        for n in range(turn * kept, (turn + 1) * kept):
            place = [turn - 1, self.row(n)]
            T.buffer_store(self.recalled_there, self.recalled[n], [*place, self.columns()])
            for m in range(self.shape.matches):
                with where(self.earlier_exists(m)):
                    value = self.matched[n, m]
                    T.buffer_store(self.matched_there, value, [*place, self.earlier(m)])

    def exchange(self, n: int) -> None:
        """Add to the sums of a kept row what the other parts have."""
        for turn in range(1, self.shape.parts):
            other, row = turn - 1, self.row(n)
            there = self.recalled_there[other, row, self.columns()]
            T.buffer_store(self.recalled, self.recalled[n] + there, [n])
            for m in range(self.shape.matches):
                position = tirx.min(self.earlier(m), int64(self.shape.positions - 1))
                there = self.matched_there[other, row, position]
                T.buffer_store(self.matched, self.matched[n, m] + there, [n, m])


@contextmanager
def where(condition: Expr | None) -> Iterator[None]:
    """A condition, unless it is None. Its body must not contain a barrier."""
    if condition is None:
        yield
    else:
        with T.If(condition), T.Then():
            yield
