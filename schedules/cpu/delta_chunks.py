"""The gated delta rule over chunks of positions: a loop nest of small matrix products.

With the names of compiler/ops/delta_rule.py, S before the chunk, its positions counted from 1, and
the decay between two positions A(t, i) = a_{i+1} ... a_t:
    d_t = b_t (v_t - A(t, 0) S^T k_t - sum_{i<t} A(t, i) (k_t k_i) d_i)
    o_t = A(t, 0) S^T q_t + sum_{i<=t} A(t, i) (q_t k_i) d_i
    S  <- A(c, 0) S + sum_i A(c, i) k_i d_i^T
The first line is a unit lower triangular system. It is solved by forward substitution, once the
products with S are known; its inverse would be needed only to separate these from the solution.
Each A(t, i) is the product of its factors. A quotient A(t, 0) / A(i, 0) could be 0 / 0, and a
difference of logarithms has few digits if one of the decays before is close to 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from ..delta_operands import Operands
from ..isa.register_tiles import LANES
from ..loops import f32, int64
from .written_tile import WrittenTile

KEYS, QUERIES = 0, 1
STEPS, DECAYS = 0, 1


@dataclass(frozen=True)
class Blocking:
    """Sizes of the nest."""

    chunk: int
    """Positions of a chunk, a multiple of 16."""
    rows: int
    """Rows of a register tile, a divisor of 16."""
    key_rows: int
    """The same if rows are keys; a divisor of key_dim."""
    columns: int
    """Columns of a register tile, a divisor of value_dim."""
    lanes: int
    """Columns of a vector, a divisor of `columns`."""


def delta_chunks(operands: Operands, blocking: Blocking, chunks: Expr) -> tirx.Stmt:
    """A parallel loop over the heads, each through `chunks` chunks.

    The last chunk may go beyond the last position.
    """
    (h, e, f), s = operands.sizes, operands.length
    whole = lambda x: x[0:s, 0 : int(x.shape[1])]  # noqa: E731
    with IRBuilder() as builder, T.parallel(int64(0), int64(h)) as task, T.sblock("delta_chunks"):
        n = T.axis.spatial(int64(h), task, "int64")
        T.reads(*map(whole, (operands.unit, operands.mixed, operands.gate)))
        T.writes(operands.state[n, 0:e, 0:f], operands.out[0:s, n * f : n * f + f])
        _Task(operands, blocking, n, _Buffers(e, f, blocking)).run(chunks)
    return builder.get()


class _Buffers:
    """Buffers of a task, in order of allocation."""

    def __init__(self, key_dim: int, value_dim: int, b: Blocking) -> None:
        c = b.chunk
        self.state = _new(value_dim // b.columns, key_dim, b.columns)
        self.pair = _new(2 * c, key_dim)  # keys, then queries
        self.turned = _new(key_dim, c)  # keys
        self.value = _new(c, value_dim)
        self.decay = _new(c, c)  # A(t, i)
        self.pace = _new(2, c)  # steps b_t, and A(t, 0)
        self.weight = _new(2, c, c)  # A(t, i) times -b_t k_t k_i, and times q_t k_i
        self.change = _new(c, b.columns)  # d_t
        self.scores = _new(2 * b.rows, LANES)
        self.sums = _new(max(b.rows, b.key_rows), b.columns)


def _new(*shape: int) -> tirx.Buffer:
    return T.sblock_alloc_buffer([int64(n) for n in shape], "float32")


@dataclass(frozen=True)
class _Task:
    """Emits the work on one head."""

    operands: Operands
    b: Blocking
    head: Expr
    kept: _Buffers

    def run(self, chunks: Expr) -> None:
        state, kept, columns = self.operands.state, self.kept.state, self.b.columns
        with self._places() as (x, c):
            value = lambda j: state[self.head, c, x * columns + j]  # noqa: E731
            self._tile().store(kept, value, lambda j: [x, c, j])
        with T.serial(int64(0), chunks) as chunk:
            self._chunk(chunk * self.b.chunk)
        with self._places() as (x, c):
            place = lambda j: [self.head, c, x * columns + j]  # noqa: E731
            self._tile().store(state, lambda j: kept[x, c, j], place)

    def _places(self):
        """Loops over the tiles of columns and the keys."""
        _, e, f = self.operands.sizes
        return T.grid(int64(f // self.b.columns), int64(e))

    def _tile(self, rows: int = 0) -> WrittenTile:
        return WrittenTile(self.kept.sums, rows or self.b.rows, self.b.columns, self.b.lanes)

    def _chunk(self, start: Expr) -> None:
        tiles = self.operands.sizes[2] // self.b.columns
        self._load(start)
        self._decays(start)
        self._weights()
        with T.serial(int64(0), int64(tiles)) as x:
            self._solve(x)
            self._result(start, x)
            self._update(x)

    # --- what does not depend on the state ---

    def _load(self, start: Expr) -> None:
        """Keys, queries and values of the chunk."""
        (_, e, f), c, kept = self.operands.sizes, self.b.chunk, self.kept
        unit, mixed, keys = self.operands.unit, self.operands.mixed, self.operands.key_heads
        own = self.operands.key_head(self.head)
        self._copy(start, kept.pair, c * KEYS, unit, (keys + own) * e)
        self._copy(start, kept.pair, c * QUERIES, unit, own * e)
        self._copy(start, kept.value, 0, mixed, self.operands.first_value + self.head * f)
        with T.grid(int64(e), int64(c)) as (j, t):
            T.buffer_store(kept.turned, kept.pair[t, j], [j, t])

    def _copy(
        self, start: Expr, to: tirx.Buffer, row: int, source: tirx.Buffer, column: Expr
    ) -> None:
        """Copy columns of `source` from `column` on; beyond the last position, zeros."""
        width = to.shape[1]
        with T.serial(int64(0), int64(self.b.chunk)) as t, T.If(self._exists(start + t)):
            with T.Then(), T.serial(int64(0), width) as j:
                T.buffer_store(to, source[start + t, column + j], [row + t, j])
            with T.Else(), T.serial(int64(0), width) as j:
                T.buffer_store(to, f32(0), [row + t, j])

    def _exists(self, position: Expr) -> Expr:
        return position < self.operands.length

    def _decays(self, start: Expr) -> None:
        """b_t and A(t, i); beyond the last position, 0 and a factor of 1 keep the state."""
        h, kept, gate = self.operands.sizes[0], self.kept, self.operands.gate
        with T.serial(int64(0), int64(self.b.chunk)) as t:
            at = tirx.min(start + t, self.operands.length - 1)
            before = tirx.max(t - 1, int64(0))
            given = lambda column, other: tirx.Select(  # noqa: E731
                self._exists(start + t), gate[at, column], f32(other)
            )
            decay = given(h + self.head, 1)
            T.buffer_store(kept.pace, given(self.head, 0), [int64(STEPS), t])
            since = tirx.Select(t > 0, kept.pace[DECAYS, before], f32(1))
            T.buffer_store(kept.pace, decay * since, [int64(DECAYS), t])
            with T.serial(int64(0), int64(self.b.chunk // LANES)) as v, self._lanes() as lane:
                i = v * LANES + lane
                last = tirx.Select(tirx.EQ(i, t), f32(1), f32(0))
                value = tirx.Select(i < t, decay * kept.decay[before, i], last)
                T.buffer_store(kept.decay, value, [t, i])

    def _lanes(self):
        return T.vectorized(int64(0), int64(LANES))

    def _weights(self) -> None:
        """The lower triangle of both weights, and what else is in its tiles."""
        rows, c = self.b.rows, self.b.chunk
        with T.serial(int64(0), int64(c // LANES)) as v:
            first = v * (LANES // rows)
            with T.serial(int64(0), int64(c // rows) - first) as turn:
                self._weigh((first + turn) * rows, v * LANES)

    def _weigh(self, t: Expr, i: Expr) -> None:
        """Weights of positions i to i + 15 in rows from t on."""
        rows, c, kept = self.b.rows, self.b.chunk, self.kept
        tile = WrittenTile(kept.scores, 2 * rows, LANES, LANES)
        tile.set(lambda r, lane: f32(0))
        left = lambda r, j: kept.pair[r // rows * c + t + r % rows, j]  # noqa: E731
        tile.add(int64(self.operands.sizes[1]), left, lambda j, lane: kept.turned[j, i + lane])
        with T.unroll(int64(0), int64(rows)) as r, self._lanes() as lane:
            decay = kept.decay[t + r, i + lane]
            before = f32(0) - kept.pace[STEPS, t + r] * decay * kept.scores[r, lane]
            T.buffer_store(kept.weight, before, [int64(KEYS), t + r, i + lane])
            seen = decay * kept.scores[rows + r, lane]
            T.buffer_store(kept.weight, seen, [int64(QUERIES), t + r, i + lane])

    # --- the columns of tile x ---

    def _rows(self, count: int, rows: int):
        """The first row of each register tile of `count` rows."""
        return T.serial(int64(0), int64(count // rows))

    def _recall(self, first: int, t: Expr, x: Expr) -> WrittenTile:
        """Rows `first + t` of keys and queries, times the state."""
        kept, tile = self.kept, self._tile()
        tile.set(lambda r, j: f32(0))
        left = lambda r, c: kept.pair[first + t + r, c]  # noqa: E731
        tile.add(int64(self.operands.sizes[1]), left, lambda c, j: kept.state[x, c, j])
        return tile

    def _solve(self, x: Expr) -> None:
        """The changes d_t."""
        rows, kept, first = self.b.rows, self.kept, x * self.b.columns
        with self._rows(self.b.chunk, rows) as turn:
            t = turn * rows
            tile = self._recall(KEYS * self.b.chunk, t, x)
            error = lambda r, j: (  # noqa: E731
                kept.value[t + r, first + j] - kept.pace[DECAYS, t + r] * kept.sums[r, j]
            )
            tile.set(lambda r, j: kept.pace[STEPS, t + r] * error(r, j))
            left = lambda r, i: kept.weight[KEYS, t + r, i]  # noqa: E731
            tile.add(t, left, lambda i, j: kept.change[i, j])
            tile.substitute(lambda r, i: kept.weight[KEYS, t + r, t + i])
            self._keep(tile, kept.change, lambda r, j: [t + r, j])

    def _result(self, start: Expr, x: Expr) -> None:
        rows, kept, out = self.b.rows, self.kept, self.operands.out
        column = self.head * self.operands.sizes[2] + x * self.b.columns
        with self._rows(self.b.chunk, rows) as turn:
            t = turn * rows
            tile = self._recall(QUERIES * self.b.chunk, t, x)
            tile.set(lambda r, j: kept.pace[DECAYS, t + r] * kept.sums[r, j])
            left = lambda r, i: kept.weight[QUERIES, t + r, i]  # noqa: E731
            tile.add(t + rows, left, lambda i, j: kept.change[i, j])
            with T.unroll(int64(0), int64(rows)) as r, T.If(self._exists(start + t + r)), T.Then():
                place = lambda j: [start + t + r, column + j]  # noqa: E731
                tile.store(out, lambda j: kept.sums[r, j], place)

    def _update(self, x: Expr) -> None:
        """The state after the chunk."""
        rows, kept, last = self.b.key_rows, self.kept, self.b.chunk - 1
        tile, count = self._tile(rows), int64(self.b.chunk)
        with T.serial(int64(0), count) as i:
            value = lambda j: kept.decay[last, i] * kept.change[i, j]  # noqa: E731
            tile.store(kept.change, value, lambda j: [i, j])
        with self._rows(self.operands.sizes[1], rows) as turn:
            c = turn * rows
            tile.set(lambda r, j: kept.pace[DECAYS, last] * kept.state[x, c + r, j])
            left = lambda r, i: kept.turned[c + r, i]  # noqa: E731
            tile.add(count, left, lambda i, j: kept.change[i, j])
            self._keep(tile, kept.state, lambda r, j: [x, c + r, j])

    def _keep(
        self, tile: WrittenTile, to: tirx.Buffer, place: Callable[[Expr, Expr], list[Expr]]
    ) -> None:
        with T.unroll(int64(0), int64(tile.rows)) as r:
            tile.store(to, lambda j: tile.sums[r, j], lambda j: place(r, j))
