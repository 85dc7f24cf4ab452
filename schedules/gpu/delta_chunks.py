"""The delta rule on a GPU over chunks of positions: small matrix products in shared memory.

The equations are those of schedules/cpu/delta_chunks.py, and so is the decay between positions, the
product of its factors. The state of a workgroup's columns is in shared memory over all positions.
A thread computes whole rows of a product for a vector of adjacent columns. Every position of a
chunk goes through each step at once, so the barriers are those of a chunk. Positions after the last
one have step 0 and decay 1, which change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..loops import ceil_div, int64
from .delta_chunk_shape import Chunks
from .delta_task import DECAYS, KEYS, QUERIES, STEPS, Task, new_buffer
from .short_vectors import broadcast, element, f32, vector_of


class _Buffers:
    """Shared by the workgroup, then those of a thread."""

    def __init__(self, shape: Chunks, pairs: int, own_keys: int) -> None:
        c, columns, lanes = shape.positions, shape.columns, shape.lanes
        keys = {"width": shape.key_lanes}
        self.pair = new_buffer("shared", shape.rows, shape.key_stride, **keys)  # queries, keys
        self.state = new_buffer("shared", shape.key_dim, shape.vectors, width=lanes)
        self.value = new_buffer("shared", c, columns)  # v_t, then d_t
        self.error = new_buffer("shared", c, columns)  # b_t (v_t - A(t, 0) S^T k_t)
        self.pace = new_buffer("shared", 2, c)  # b_t and a_t
        self.since = new_buffer("shared", c, c + 1)  # A(t, i) at (t, i + 1); zero for i > t
        self.weight = new_buffer("shared", 2, c, c)  # A(t, i) times q_t k_i, and times -b_t k_t k_i
        self.recalled = new_buffer("local", shape.own_rows, width=lanes)
        self.match = new_buffer("local", 2, pairs, **keys)
        self.updated = new_buffer("local", own_keys, width=lanes)
        self.solved = new_buffer("local", c)
        self.left = new_buffer("local", 1, **keys)
        self.right = new_buffer("local", 1, width=lanes)
        self.factor = new_buffer("local", 1)


class ChunkSteps:
    """Emits the work of a thread."""

    def __init__(self, shape: Chunks, task: Task) -> None:
        self.shape, self.task = shape, task
        self.vector = task.number % shape.vectors
        self.group = task.number // shape.vectors
        self.pairs = -(-(shape.positions**2) // shape.threads)
        self.turns = -(-shape.key_vectors // shape.groups)
        self.kept = _Buffers(shape, self.pairs, self.turns * shape.key_lanes)

    def advance(self) -> None:
        """Advance the columns of the workgroup by all positions."""
        state, kept = self.task.operands.state, self.kept
        with self._own_keys() as (_, key):
            values = [state[tuple(self._place(key, lane))] for lane in range(self.shape.lanes)]
            T.buffer_store(kept.state, vector_of(values), [key, self.vector])
        chunks = ceil_div(self.task.operands.length, self.shape.positions)
        with T.serial(int64(0), chunks) as turn:
            self._chunk(turn * self.shape.positions)
        with self._own_keys() as (_, key):
            for lane in range(self.shape.lanes):
                value = element(kept.state[key, self.vector], lane, self.shape.lanes)
                T.buffer_store(state, value, self._place(key, lane))

    def _chunk(self, start: Expr) -> None:
        self._load(start)
        self._decays()
        self._recall()
        self._weigh()
        self._errors()
        self._solve()
        self._result(start)
        self._update()

    # --- places ---

    def _place(self, key: Expr, lane: int) -> list[Expr]:
        return [self.task.head, key, self.task.column(self._column(lane))]

    def _column(self, lane: int) -> Expr:
        return self.vector * self.shape.lanes + lane

    @contextmanager
    def _key_vectors(self) -> Iterator[tuple[Expr, Expr, Expr | None]]:
        """Number and index of the thread's vectors of keys, and whether there is such a one."""
        count, groups = self.shape.key_vectors, self.shape.groups
        with T.unroll(int64(0), int64(self.turns)) as n:
            index = n * groups + self.group
            exists = None if count % groups == 0 else index < count
            yield n, index, exists

    @contextmanager
    def _own_keys(self) -> Iterator[tuple[Expr, Expr]]:
        """Number and index of the thread's keys of the state."""
        lanes = self.shape.key_lanes
        each = T.unroll(int64(0), int64(lanes))
        with self._key_vectors() as (n, index, exists), _where(exists), each as lane:
            yield n * lanes + lane, index * lanes + lane

    @contextmanager
    def _rows(self, kind: int) -> Iterator[tuple[Expr, Expr]]:
        """Number and position of the thread's rows of keys or of queries."""
        c, groups = self.shape.positions, self.shape.groups
        if groups > c:  # a thread has one row at most
            with _where(tirx.EQ(self.group // c, int64(kind))):
                yield int64(0), self.group % c
        else:
            with T.unroll(int64(0), int64(c // groups)) as n:
                yield kind * (c // groups) + n, n * groups + self.group

    # --- steps ---

    def _load(self, start: Expr) -> None:
        """Keys, queries, values and gates of the chunk."""
        shape, task, kept = self.shape, self.task, self.kept
        c, s = shape.positions, task.operands.length
        at = lambda t: tirx.min(start + t, s - 1)  # noqa: E731
        given = lambda t, value, other: tirx.Select(start + t < s, value, f32(other))  # noqa: E731
        for kind in (QUERIES, KEYS):
            with task.each(c * shape.key_vectors) as i:
                t, k = i // shape.key_vectors, i % shape.key_vectors
                first = k * shape.key_lanes
                lanes = range(shape.key_lanes)
                values = [given(t, task.unit(at(t), kind, first + n), 0) for n in lanes]
                T.buffer_store(kept.pair, vector_of(values), [kind * c + t, k])
        with task.each(c * shape.columns) as i:
            t, x = i // shape.columns, i % shape.columns
            T.buffer_store(kept.value, given(t, task.value(at(t), x), 0), [t, x])
        with task.each(c) as t:
            for kind, none in ((STEPS, 0), (DECAYS, 1)):
                T.buffer_store(kept.pace, given(t, task.pace(at(t), kind), none), [kind, t])

    def _decays(self) -> None:
        """A(t, i): a thread per i multiplies one factor after the other."""
        kept, c = self.kept, self.shape.positions
        with self.task.each(c + 1) as x:
            T.buffer_store(kept.factor, f32(1), [0])
            with T.serial(int64(0), int64(c)) as t:
                longer = kept.factor[0] * kept.pace[DECAYS, t]
                T.buffer_store(kept.factor, tirx.Select(t >= x, longer, f32(1)), [0])
                T.buffer_store(kept.since, tirx.Select(t + 1 >= x, kept.factor[0], f32(0)), [t, x])

    def _recall(self) -> None:
        """Keys and queries times the state."""
        shape, kept = self.shape, self.kept
        count = int64(shape.own_rows)
        with T.unroll(int64(0), count) as n:
            T.buffer_store(kept.recalled, f32(0, shape.lanes), [n])
        with T.serial(int64(0), int64(shape.key_vectors)) as k, T.unroll(int64(0), count) as n:
            row = tirx.min(n * shape.groups + self.group, shape.rows - 1)
            T.buffer_store(kept.left, kept.pair[row, k], [0])
            for lane in range(shape.key_lanes):
                right = kept.state[k * shape.key_lanes + lane, self.vector]
                self._multiply(kept.recalled, n, self._left(lane), right)

    def _weigh(self) -> None:
        """The weights of each pair of positions; those of later ones are multiplied by zero."""
        shape, kept = self.shape, self.kept
        c, kinds = shape.positions, (QUERIES, KEYS)
        with T.unroll(int64(0), int64(self.pairs)) as n:
            for kind in kinds:
                T.buffer_store(kept.match, f32(0, shape.key_lanes), [kind, n])
        keys = T.serial(int64(0), int64(shape.key_vectors))
        with keys as k, T.unroll(int64(0), int64(self.pairs)) as n:
            t, i, _ = self._pair(n)
            for kind in kinds:
                product = kept.pair[kind * c + t, k] * kept.pair[KEYS * c + i, k]
                T.buffer_store(kept.match, kept.match[kind, n] + product, [kind, n])
        with T.unroll(int64(0), int64(self.pairs)) as n:
            t, i, exists = self._pair(n)
            factors = (f32(1), f32(0) - kept.pace[STEPS, t])
            with _where(exists):
                for kind, factor in zip(kinds, factors, strict=True):
                    weight = factor * kept.since[t, i + 1] * _sum(kept.match[kind, n], shape)
                    T.buffer_store(kept.weight, weight, [kind, t, i])

    def _pair(self, n: Expr) -> tuple[Expr, Expr, Expr | None]:
        """The positions of the thread's n-th pair, and whether there is such a one."""
        c, threads = self.shape.positions, self.shape.threads
        index, ragged = n * threads + self.task.number, c * c % threads != 0
        place = tirx.min(index, c * c - 1) if ragged else index
        return place // c, place % c, index < c * c if ragged else None

    def _errors(self) -> None:
        """What the changes would be if they did not affect each other."""
        kept, lanes = self.kept, self.shape.lanes
        with self._rows(KEYS) as (n, t):
            for lane in range(lanes):
                recalled = kept.since[t, 0] * element(kept.recalled[n], lane, lanes)
                error = kept.value[t, self._column(lane)] - recalled
                T.buffer_store(kept.error, kept.pace[STEPS, t] * error, [t, self._column(lane)])

    def _solve(self) -> None:
        """The changes d_t, by forward substitution: a thread per column."""
        kept, c = self.kept, self.shape.positions
        with self.task.each(self.shape.columns) as x:
            with T.unroll(int64(0), int64(c)) as t:
                T.buffer_store(kept.solved, kept.error[t, x], [t])
            for i in range(c):
                for t in range(i + 1, c):
                    further = kept.weight[KEYS, t, i] * kept.solved[i]
                    T.buffer_store(kept.solved, kept.solved[t] + further, [t])
            with T.unroll(int64(0), int64(c)) as t:
                T.buffer_store(kept.value, kept.solved[t], [t, x])

    def _result(self, start: Expr) -> None:
        shape, kept, task = self.shape, self.kept, self.task
        with self._rows(QUERIES) as (n, t):
            decay = broadcast(kept.since[t, 0], shape.lanes)
            T.buffer_store(kept.recalled, decay * kept.recalled[n], [n])
        with T.serial(int64(0), int64(shape.positions)) as i:
            T.buffer_store(kept.right, self._changes(i), [0])
            with self._rows(QUERIES) as (n, t):
                weight = kept.weight[QUERIES, t, i]
                self._multiply(kept.recalled, n, weight, kept.right[0])
        with self._rows(QUERIES) as (n, t), _where(start + t < task.operands.length):
            for lane in range(shape.lanes):
                value = element(kept.recalled[n], lane, shape.lanes)
                place = [start + t, task.output(self._column(lane))]
                T.buffer_store(task.operands.out, value, place)

    def _update(self) -> None:
        """The state after the chunk: all of the thread's is read before any of it is written, as
        TVM would put a barrier between each two of them."""
        shape, kept, last = self.shape, self.kept, self.shape.positions - 1
        with self._own_keys() as (n, key):
            decay = broadcast(kept.since[last, 0], shape.lanes)
            T.buffer_store(kept.updated, decay * kept.state[key, self.vector], [n])
        with T.serial(int64(0), int64(shape.positions)) as i:
            decay = broadcast(kept.since[last, i + 1], shape.lanes)
            T.buffer_store(kept.right, decay * self._changes(i), [0])
            with self._key_vectors() as (n, index, _):
                place = tirx.min(index, shape.key_vectors - 1)
                T.buffer_store(kept.left, kept.pair[KEYS * shape.positions + i, place], [0])
                for lane in range(shape.key_lanes):
                    place = n * shape.key_lanes + lane
                    self._multiply(kept.updated, place, self._left(lane), kept.right[0])
        with self._own_keys() as (n, key):
            T.buffer_store(kept.state, kept.updated[n], [key, self.vector])

    # --- expressions ---

    def _left(self, lane: int) -> Expr:
        return element(self.kept.left[0], lane, self.shape.key_lanes)

    def _multiply(self, sums: tirx.Buffer, n: Expr, scalar: Expr, vector: Expr) -> None:
        T.buffer_store(sums, sums[n] + broadcast(scalar, self.shape.lanes) * vector, [n])

    def _changes(self, i: Expr) -> Expr:
        """The changes d_i of the thread's columns."""
        values: Sequence[Expr] = [
            self.kept.value[i, self._column(lane)] for lane in range(self.shape.lanes)
        ]
        return vector_of(values)


@contextmanager
def _where(condition: Expr | None) -> Iterator[None]:
    """A condition, unless it is None. Its body must not contain a barrier."""
    if condition is None:
        yield
    else:
        with T.If(condition), T.Then():
            yield


def _sum(vector: Expr, shape: Chunks) -> Expr:
    """The sum of the elements."""
    total = element(vector, 0, shape.key_lanes)
    for lane in range(1, shape.key_lanes):
        total = total + element(vector, lane, shape.key_lanes)
    return total
