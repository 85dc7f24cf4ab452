"""The steps of a workgroup of the delta rule on a GPU (gpu_delta_rule.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from handglass.schedules.gpu.short_vectors import f32
from handglass.schedules.loops import ceil_div

from .delta_rule import Heads
from .gpu_delta_share import Share
from .index_type import int64

KEY, QUERY, BOTH = range(3)
"""Sums over the keys: of S^T k, of S^T q, and of k q."""


@dataclass(frozen=True)
class Operands:
    """The arguments of the kernel."""

    state: tirx.Buffer  # (values, key_dim, value_dim)
    unit: tirx.Buffer  # (s, 2 keys key_dim)
    mixed: tirx.Buffer  # (s, width)
    gate: tirx.Buffer  # (s, 2 values)
    out: tirx.Buffer  # (s, values value_dim)


@dataclass(frozen=True)
class Task:
    """Thread `number` of the workgroup for tile `tile` of the columns of head `head`."""

    heads: Heads
    share: Share
    tile: Expr
    head: Expr
    number: Expr

    @property
    def keys(self) -> int:
        """Keys per thread."""
        return self.heads.key_dim // self.share.parts

    @property
    def key_head(self) -> Expr:
        return self.head // (self.heads.values // self.heads.keys)

    @property
    def own_column(self) -> Expr:
        """The column of the thread, within the tile."""
        return self.number % self.share.columns

    def key(self, c: Expr) -> Expr:
        """The c-th key of the thread."""
        return self.number // self.share.columns * self.keys + c

    def column(self, x: Expr) -> Expr:
        """Column x of the tile, within the head."""
        return self.tile * self.share.columns + x

    def output(self, x: Expr) -> Expr:
        """Column x of the tile, within all heads."""
        return self.head * self.heads.value_dim + self.column(x)


class Buffers:
    """Shared by the workgroup: operands of a few positions. Of a thread: its keys of the state."""

    def __init__(self, task: Task) -> None:
        positions, columns = task.share.positions, task.share.columns
        self.pair = _new("shared", positions, 2, task.heads.key_dim)  # query and key
        self.value = _new("shared", positions, columns)
        self.pace = _new("shared", positions, 2)  # step and decay
        self.sums = _new("shared", 3, task.share.threads)
        self.state = _new("local", task.keys)
        self.own = _new("local", 3)
        self.total = _new("local", 3)
        self.change = _new("local", 1)


def _new(scope: str, *shape: int) -> tirx.Buffer:
    return T.sblock_alloc_buffer([int64(n) for n in shape], "float32", scope=scope)


def advance(task: Task, operands: Operands, s: Expr) -> None:
    """Advance the columns of the workgroup by s positions."""
    buffers, positions = Buffers(task), task.share.positions
    state = operands.state
    with T.unroll(int64(0), int64(task.keys)) as c:
        place = [task.head, task.key(c), task.column(task.own_column)]
        T.buffer_store(buffers.state, state[place], [c])
    with T.serial(int64(0), ceil_div(s, positions)) as chunk:
        start = chunk * positions
        count = tirx.min(int64(positions), s - start)
        _load(task, operands, buffers, start, count)
        with T.serial(int64(0), count) as t:
            _sum(task, buffers, t)
            _change(task, operands, buffers, start, t)
    with T.unroll(int64(0), int64(task.keys)) as c:
        place = [task.head, task.key(c), task.column(task.own_column)]
        T.buffer_store(state, buffers.state[c], place)


def _load(task: Task, operands: Operands, buffers: Buffers, start: Expr, count: Expr) -> None:
    """Load the operands of `count` positions from `start` on into shared memory."""
    e, heads = task.heads.key_dim, task.heads
    first = 2 * heads.keys * e  # column of the first value

    def pair(i: Expr, j: Expr) -> Expr:
        return operands.unit[start + i, (j // e * heads.keys + task.key_head) * e + j % e]

    def value(i: Expr, j: Expr) -> Expr:
        return operands.mixed[start + i, first + task.output(j)]

    def pace(i: Expr, j: Expr) -> Expr:
        return operands.gate[start + i, j * heads.values + task.head]

    _copy(task, count, 2 * e, pair, buffers.pair, lambda i, j: [i, j // e, j % e])
    _copy(task, count, task.share.columns, value, buffers.value, lambda i, j: [i, j])
    _copy(task, count, 2, pace, buffers.pace, lambda i, j: [i, j])


def _copy(
    task: Task,
    count: Expr,
    width: int,
    read: Callable[[Expr, Expr], Expr],
    buffer: tirx.Buffer,
    place: Callable[[Expr, Expr], list[Expr]],
) -> None:
    """Copy `count` rows of `width` numbers; adjacent threads take adjacent numbers."""
    threads = task.share.threads
    with T.serial(int64(0), int64(-(-task.share.positions * width // threads))) as turn:
        i = turn * threads + task.number
        with T.If(i < count * width), T.Then():
            T.buffer_store(buffer, read(i // width, i % width), place(i // width, i % width))


def _sum(task: Task, buffers: Buffers, t: Expr) -> None:
    """Sums over the keys of position t of the chunk: of the thread, then of its column."""
    own, total = buffers.own, buffers.total
    for kind in (KEY, QUERY, BOTH):
        T.buffer_store(own, f32(0), [kind])
    with T.unroll(int64(0), int64(task.keys)) as c:
        query, key = (buffers.pair[t, which, task.key(c)] for which in (0, 1))
        T.buffer_store(own, own[KEY] + key * buffers.state[c], [KEY])
        T.buffer_store(own, own[QUERY] + query * buffers.state[c], [QUERY])
        T.buffer_store(own, own[BOTH] + key * query, [BOTH])
    for kind in (KEY, QUERY, BOTH):
        T.buffer_store(buffers.sums, own[kind], [kind, task.number])
    for kind in (KEY, QUERY, BOTH):
        T.buffer_store(total, f32(0), [kind])
        with T.unroll(int64(0), int64(task.share.parts)) as part:
            other = part * task.share.columns + task.own_column
            T.buffer_store(total, total[kind] + buffers.sums[kind, other], [kind])


def _change(task: Task, operands: Operands, buffers: Buffers, start: Expr, t: Expr) -> None:
    """Update the state of the thread; the first thread of each column stores the result."""
    total, change, x = buffers.total, buffers.change, task.number
    step, decay = (buffers.pace[t, which] for which in (0, 1))
    error = buffers.value[t, task.own_column] - decay * total[KEY]
    T.buffer_store(change, step * error, [0])
    with T.If(x < task.share.columns), T.Then():
        result = decay * total[QUERY] + total[BOTH] * change[0]
        T.buffer_store(operands.out, result, [start + t, task.output(x)])
    with T.unroll(int64(0), int64(task.keys)) as c:
        update = buffers.pair[t, 1, task.key(c)] * change[0]
        T.buffer_store(buffers.state, decay * buffers.state[c] + update, [c])
