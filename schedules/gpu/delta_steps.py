"""The delta rule on a GPU, position by position.

A thread keeps a part of the keys of one column of the state in registers over all positions.
Queries, keys, values and gates of a few positions at a time are in shared memory. With S before the
update and d as in compiler/ops/delta_rule.py,
    o = a S^T q + (k q) d
so the sums over the keys, of S^T k, S^T q and k q, need one exchange between threads per position.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..loops import ceil_div, int64
from .delta_share import Share
from .delta_task import DECAYS, KEYS, QUERIES, STEPS, Task, new_buffer
from .short_vectors import f32

KEY, QUERY, BOTH = range(3)
"""Sums over the keys: of S^T k, of S^T q, and of k q."""


class _Buffers:
    """Shared by the workgroup: operands of a few positions. Of a thread: its keys of the state."""

    def __init__(self, share: Share) -> None:
        positions, columns = share.positions, share.columns
        self.pair = new_buffer("shared", positions, 2, share.key_dim)  # query and key
        self.value = new_buffer("shared", positions, columns)
        self.pace = new_buffer("shared", positions, 2)  # step and decay
        self.sums = new_buffer("shared", 3, share.threads)
        self.state = new_buffer("local", share.keys)
        self.own = new_buffer("local", 3)
        self.total = new_buffer("local", 3)
        self.change = new_buffer("local", 1)


class Steps:
    """Emits the work of a thread."""

    def __init__(self, share: Share, task: Task) -> None:
        self.share, self.task = share, task
        self.kept = _Buffers(share)

    @property
    def column(self) -> Expr:
        """The column of the thread, within the tile."""
        return self.task.number % self.share.columns

    def key(self, c: Expr) -> Expr:
        """The c-th key of the thread."""
        return self.task.number // self.share.columns * self.share.keys + c

    def advance(self) -> None:
        """Advance the columns of the workgroup by all positions."""
        state, kept, positions = self.task.operands.state, self.kept, self.share.positions
        s = self.task.operands.length
        with self._keys() as c:
            T.buffer_store(kept.state, state[tuple(self._place(c))], [c])
        with T.serial(int64(0), ceil_div(s, positions)) as turn:
            start = turn * positions
            count = tirx.min(int64(positions), s - start)
            self._load(start, count)
            with T.serial(int64(0), count) as t:
                self._sum(t)
                self._change(start, t)
        with self._keys() as c:
            T.buffer_store(state, kept.state[c], self._place(c))

    def _keys(self):
        return T.unroll(int64(0), int64(self.share.keys))

    def _place(self, c: Expr) -> list[Expr]:
        return [self.task.head, self.key(c), self.task.column(self.column)]

    def _load(self, start: Expr, count: Expr) -> None:
        """Load the operands of `count` positions from `start` on into shared memory."""
        e, task, kept = self.share.key_dim, self.task, self.kept

        pair = lambda t, j: task.unit(t, j // e, j % e)  # noqa: E731
        columns = self.share.columns
        self._copy(start, count, 2 * e, pair, kept.pair, lambda i, j: [i, j // e, j % e])
        self._copy(start, count, columns, task.value, kept.value, lambda i, j: [i, j])
        self._copy(start, count, 2, task.pace, kept.pace, lambda i, j: [i, j])

    def _copy(
        self,
        start: Expr,
        count: Expr,
        width: int,
        read: Callable[[Expr, Expr], Expr],
        buffer: tirx.Buffer,
        place: Callable[[Expr, Expr], list[Expr]],
    ) -> None:
        """Copy `count` rows of `width` numbers; adjacent threads take adjacent numbers."""
        threads = self.share.threads
        with T.serial(int64(0), int64(-(-self.share.positions * width // threads))) as turn:
            i = turn * threads + self.task.number
            with T.If(i < count * width), T.Then():
                t, j = i // width, i % width
                T.buffer_store(buffer, read(start + t, j), place(t, j))

    def _sum(self, t: Expr) -> None:
        """Sums over the keys of position t of the chunk: of the thread, then of its column."""
        kept, own, total = self.kept, self.kept.own, self.kept.total
        for kind in (KEY, QUERY, BOTH):
            T.buffer_store(own, f32(0), [kind])
        with self._keys() as c:
            query, key = (kept.pair[t, kind, self.key(c)] for kind in (QUERIES, KEYS))
            T.buffer_store(own, own[KEY] + key * kept.state[c], [KEY])
            T.buffer_store(own, own[QUERY] + query * kept.state[c], [QUERY])
            T.buffer_store(own, own[BOTH] + key * query, [BOTH])
        for kind in (KEY, QUERY, BOTH):
            T.buffer_store(kept.sums, own[kind], [kind, self.task.number])
        for kind in (KEY, QUERY, BOTH):
            T.buffer_store(total, f32(0), [kind])
            with T.unroll(int64(0), int64(self.share.parts)) as part:
                other = part * self.share.columns + self.column
                T.buffer_store(total, total[kind] + kept.sums[kind, other], [kind])

    def _change(self, start: Expr, t: Expr) -> None:
        """Update the state of the thread; the first thread of each column stores the result."""
        kept, total, x = self.kept, self.kept.total, self.task.number
        change = kept.change
        step, decay = (kept.pace[t, kind] for kind in (STEPS, DECAYS))
        error = kept.value[t, self.column] - decay * total[KEY]
        T.buffer_store(change, step * error, [0])
        with T.If(x < self.share.columns), T.Then():
            result = decay * total[QUERY] + total[BOTH] * change[0]
            T.buffer_store(self.task.operands.out, result, [start + t, self.task.output(x)])
        with self._keys() as c:
            update = kept.pair[t, KEYS, self.key(c)] * change[0]
            T.buffer_store(kept.state, decay * kept.state[c] + update, [c])
