"""The delta rule on a GPU over chunks of positions: small matrix products in shared memory.

The equations are those of schedules/cpu/delta_chunks.py, and so is the decay between positions, the
product of its factors. The state of a workgroup's columns is in shared memory over all positions.
Every position of a chunk goes through each step at once, so the barriers are those of a chunk.
Positions after the last one have step 0 and decay 1, which change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..loops import ceil_div, int64
from .delta_chunk_products import Products, where
from .delta_chunk_shape import Chunks
from .delta_task import DECAYS, KEYS, QUERIES, STEPS, Task, new_buffer, width_of
from .short_vectors import broadcast, element, f32, ramp


class _Buffers:
    """Shared by the workgroup, then those of a thread.

    Rows with a stride of their own are in flat buffers: TVM would remove what nothing accesses.
    """

    def __init__(self, shape: Chunks, own_keys: int) -> None:
        c, columns, lanes = shape.positions, shape.columns, shape.lanes
        self.pair = new_buffer("shared", shape.rows * shape.key_stride, width=shape.key_lanes)
        self.state = new_buffer("shared", shape.key_dim, shape.vectors, width=lanes)
        self.error = new_buffer("shared", c, columns)  # b_t (v_t - A(t, 0) S^T k_t)
        self.change = new_buffer("shared", c, columns)  # d_t
        self.pace = new_buffer("shared", 2, c)  # b_t and a_t
        self.since = new_buffer("shared", c, c + 1)  # A(t, i) at (t, i + 1); zero for i > t
        self.pull = new_buffer("shared", c * shape.weight_stride)  # -b_t A(t, i) k_t k_i at (i, t)
        self.seen = new_buffer("shared", c * shape.weight_stride)  # A(t, i) q_t k_i at (t, i)
        self.value = new_buffer("local", shape.kept_rows, width=lanes)
        self.updated = new_buffer("local", own_keys, width=lanes)
        self.solved = new_buffer("local", c)
        self.left = new_buffer("local", 1, width=shape.key_lanes)
        self.weights = new_buffer("local", shape.kept_rows, width=width_of(c))
        self.right = new_buffer("local", 1, width=lanes)
        self.factor = new_buffer("local", 1)


class ChunkSteps:
    """Emits the work of a thread."""

    def __init__(self, shape: Chunks, task: Task) -> None:
        self.shape, self.task = shape, task
        self.vector = task.number % shape.vectors
        self.group = task.number // shape.vectors
        self.turns = -(-shape.key_vectors // shape.groups)
        self.kept = _Buffers(shape, self.turns * shape.key_lanes)
        self.products = Products(shape, task.number, self.kept.pair, self.kept.state)

    def advance(self) -> None:
        """Advance the columns of the workgroup by all positions."""
        state, kept = self.task.operands.state, self.kept
        columns = self.task.column(self.products.columns())
        place = lambda key: [self.task.head, key, columns]  # noqa: E731
        with self._own_keys() as (_, key):
            T.buffer_store(kept.state, state[tuple(place(key))], [key, self.vector])
        chunks = ceil_div(self.task.operands.length, self.shape.positions)
        with T.serial(int64(0), chunks) as turn:
            self._chunk(turn * self.shape.positions)
        with self._own_keys() as (_, key):
            T.buffer_store(state, kept.state[key, self.vector], place(key))

    def _chunk(self, start: Expr) -> None:
        self._load(start)
        self._values(start)
        self._decays()
        self.products.compute()
        self._weigh()
        self._solve()
        self._result(start)
        self._update()

    # --- places ---

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
        with self._key_vectors() as (n, index, exists), where(exists), each as lane:
            yield n * lanes + lane, index * lanes + lane

    # --- steps ---

    def _load(self, start: Expr) -> None:
        """Keys, queries and gates of the chunk. Beyond the last position they are its own again,
        but for the gates; so no load waits for a condition."""
        shape, task, kept = self.shape, self.task, self.kept
        c, lanes = shape.positions, shape.key_lanes
        with task.each(shape.rows * shape.key_vectors, loop=T.unroll) as i:
            row, k = i // shape.key_vectors, i % shape.key_vectors
            value = task.unit(self._position(start, row % c), row // c, ramp(k * lanes, lanes))
            T.buffer_store(kept.pair, value, [row * shape.key_stride + k])
        with task.each(c) as t:
            for kind, none in ((STEPS, 0), (DECAYS, 1)):
                value = task.pace(self._position(start, t), kind)
                exists = start + t < task.operands.length
                T.buffer_store(kept.pace, tirx.Select(exists, value, f32(none)), [kind, t])

    def _position(self, start: Expr, t: Expr) -> Expr:
        """Position t of the chunk, or the last one of all."""
        return tirx.min(start + t, self.task.operands.length - 1)

    def _values(self, start: Expr) -> None:
        """The values of the thread's rows, early: nothing waits for them until the products are
        done."""
        lanes = self.shape.lanes
        with self.products.whole_rows(KEYS) as rows:
            for n, t in rows:
                position = self._position(start, t)
                value = self.task.values(position, self.vector * lanes, lanes)
                T.buffer_store(self.kept.value, value, [n])

    def _decays(self) -> None:
        """A(t, i): a thread per i multiplies one factor after the other."""
        kept, c = self.kept, self.shape.positions
        with self.task.each(c + 1) as x:
            T.buffer_store(kept.factor, f32(1), [0])
            with T.serial(int64(0), int64(c)) as t:
                longer = kept.factor[0] * kept.pace[DECAYS, t]
                T.buffer_store(kept.factor, tirx.Select(t >= x, longer, f32(1)), [0])
                T.buffer_store(kept.since, tirx.Select(t + 1 >= x, kept.factor[0], f32(0)), [t, x])

    def _weigh(self) -> None:
        """From the products: the weights between positions, zero for later ones; what the changes
        would be if they did not affect each other; and the part of the results from before."""
        kept, products, lanes = self.kept, self.products, self.shape.lanes
        stride = self.shape.weight_stride
        with products.whole_rows(QUERIES) as rows:
            for n, t in rows:
                products.exchange(n)
                recalled = broadcast(kept.since[t, 0], lanes) * products.recalled[n]
                T.buffer_store(products.recalled, recalled, [n])
                self._keep_weights(n, t, f32(1), kept.seen, lambda t, i: t * stride + i)
        with products.whole_rows(KEYS) as rows:
            for n, t in rows:
                products.exchange(n)
                step = kept.pace[STEPS, t]
                recalled = broadcast(kept.since[t, 0], lanes) * products.recalled[n]
                error = broadcast(step, lanes) * (kept.value[n] - recalled)
                T.buffer_store(kept.error, error, [t, self.products.columns()])
                self._keep_weights(n, t, f32(0) - step, kept.pull, lambda t, i: i * stride + t)

    def _keep_weights(
        self,
        n: int,
        t: Expr,
        factor: Expr,
        weights: tirx.Buffer,
        place: Callable[[Expr, Expr], Expr],
    ) -> None:
        """Store `factor` times the decayed products of row n, which is of position t."""
        products = self.products
        for m in range(self.shape.matches):
            i = products.earlier(m)
            with where(products.earlier_exists(m)):
                value = factor * self.kept.since[t, i + 1] * products.matched[n, m]
                T.buffer_store(weights, value, [place(t, i)])

    def _solve(self) -> None:
        """The changes d_t, by forward substitution: a thread per column."""
        kept, c, width = self.kept, self.shape.positions, width_of(self.shape.positions)
        stride = self.shape.weight_stride
        with self.task.each(self.shape.columns) as x:
            for t in range(c):
                T.buffer_store(kept.solved, kept.error[t, x], [t])
            for i in range(c):
                for first in range((i + 1) // width * width, c, width):
                    T.buffer_store(
                        kept.weights, kept.pull[ramp(int64(i * stride + first), width)], [0]
                    )
                    for t in range(max(first, i + 1), first + width):
                        weight = element(kept.weights[0], t - first, width)
                        T.buffer_store(kept.solved, kept.solved[t] + weight * kept.solved[i], [t])
            for t in range(c):
                T.buffer_store(kept.change, kept.solved[t], [t, x])

    def _result(self, start: Expr) -> None:
        shape, kept, sums = self.shape, self.kept, self.products.recalled
        width = width_of(shape.positions)
        with self.products.whole_rows(QUERIES) as rows:
            with T.serial(int64(0), int64(shape.positions // width)) as turn:
                for n, t in rows:
                    first = t * shape.weight_stride + turn * width
                    T.buffer_store(kept.weights, kept.seen[ramp(first, width)], [n])
                for lane in range(width):
                    T.buffer_store(kept.right, self._change(turn * width + lane), [0])
                    for n, _ in rows:
                        self._multiply(sums, n, element(kept.weights[n], lane, width))
            for n, t in rows:
                with where(start + t < self.task.operands.length):
                    place = [start + t, self.task.output(self.products.columns())]
                    T.buffer_store(self.task.operands.out, sums[n], place)

    def _update(self) -> None:
        """The state after the chunk: all of the thread's is read before any of it is written, as
        TVM would put a barrier between each two of them."""
        shape, kept, last = self.shape, self.kept, self.shape.positions - 1
        with self._own_keys() as (n, key):
            decay = broadcast(kept.since[last, 0], shape.lanes)
            T.buffer_store(kept.updated, decay * kept.state[key, self.vector], [n])
        with T.serial(int64(0), int64(shape.positions)) as i:
            decay = broadcast(kept.since[last, i + 1], shape.lanes)
            T.buffer_store(kept.right, decay * self._change(i), [0])
            with self._key_vectors() as (n, index, _):
                row, k = KEYS * shape.positions + i, tirx.min(index, shape.key_vectors - 1)
                T.buffer_store(kept.left, kept.pair[row * shape.key_stride + k], [0])
                for lane in range(shape.key_lanes):
                    left = element(kept.left[0], lane, shape.key_lanes)
                    self._multiply(kept.updated, n * shape.key_lanes + lane, left)
        with self._own_keys() as (n, key):
            T.buffer_store(kept.state, kept.updated[n], [key, self.vector])

    def _multiply(self, sums: tirx.Buffer, n: Expr | int, scalar: Expr) -> None:
        """Add a scalar times the vector `right` to a vector of sums."""
        product = broadcast(scalar, self.shape.lanes) * self.kept.right[0]
        T.buffer_store(sums, sums[n] + product, [n])

    def _change(self, i: Expr) -> Expr:
        """The changes d_i of the thread's columns."""
        return self.kept.change[i, self.products.columns()]
