"""The loop nest of attention for a GPU, written out: a workgroup per tile of rows.

A workgroup owns a kv head and a tile of rows, pairs of (query, head of the group), and walks over
chunks of positions: scores, a new maximum, weights, their product with the values, added to what
came before after that has been scaled to the new maximum (online softmax, Milakov and Gimelshein
2018, https://arxiv.org/abs/1805.02867).

In the scores a thread owns a position of the chunk and has all rows of it, so neighbouring threads
read neighbouring positions of a panel of keys. In the product with the values it owns a column (or
some) and shares the rows, or else the positions, with the other threads of that column. Only the
scores and what the rows agree on pass through shared memory. Positions behind the last one that the
tile sees are never read: their place is taken by that last one, with a weight of zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tvm import te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from handglass.schedules.dot import LANES
from handglass.schedules.rule import MULTIPLY_ADDS, PATTERN, SEEN

from .attention_rows import Rows
from .attention_tiles import Limit, int64
from .computed import Computed
from .exponential import LOG2_E
from .workgroup import LOWEST, Workgroup


def attend(
    q: Computed,
    keys: te.Tensor,
    values: te.Tensor,
    scales: tuple[te.Tensor, ...],
    scale: float,
    limit: Limit,
) -> te.Tensor:
    """q (s, h, d), not scaled -> (s, h * d); the rest as in `attention`."""
    s, h, d = int64(q.shape[0]), int(q.shape[1]), int(q.shape[2])
    group = h // int(keys.shape[0])
    shape = Workgroup.of(s * group, d)
    count, inputs = len(q.inputs), [*q.inputs, keys, values, *scales]

    def nest(ins: list[tirx.Buffer], outs: list[tirx.Buffer]) -> tirx.Stmt:
        rows = Rows(s, group, d, limit, q.read(ins[:count]), scale * LOG2_E)
        return Nest(shape, rows, ins[count:], outs[0]).statement()

    work = [h * d, s, limit(int64(0)) + limit(s - 1)]  # as on the CPU: attention_tiles.py
    return te.extern(
        (s, h * d),
        inputs,
        nest,
        name="attention",
        dtype="float32",
        in_buffers=[_whole(tensor.shape, tensor.dtype) for tensor in inputs],
        out_buffers=[_whole((s, h * d), "float32")],
        attrs={PATTERN: "attention", MULTIPLY_ADDS: work, SEEN: [limit(s - 1), values.shape[1]]},
    )


def _whole(shape: Sequence[Expr | int], dtype: str) -> tirx.Buffer:
    """A buffer that begins where its tensor does: an offset would be one more scalar to pass."""
    return tirx.decl_buffer(shape, dtype, layout=None)


class Nest:
    """Emits the statement; a method per step, what lasts for the workgroup as attributes."""

    def __init__(
        self, shape: Workgroup, rows: Rows, ins: list[tirx.Buffer], out: tirx.Buffer
    ) -> None:
        self.shape, self.rows, self.out = shape, rows, out
        self.keys, self.values, *self.scales = ins

    def statement(self) -> tirx.Stmt:
        tiles, heads = self.rows.tiles(self.shape.tile), int64(self.keys.shape[0])
        with (
            IRBuilder() as ib,
            _bound(tiles, "blockIdx.x") as tile,
            _bound(heads, "blockIdx.y") as head,
            _bound(int64(self.shape.threads), "threadIdx.x") as thread,
            T.sblock("task"),
        ):
            self.head, self.thread = _spatial(heads, head), _spatial(self.shape.threads, thread)
            self.first = _spatial(tiles, tile) * self.shape.tile
            self.end = self.rows.limit_of(self.first + (self.shape.tile - 1))
            self._buffers()
            self._start()
            chunks = _ceil(self.end, self.shape.chunk)
            with T.serial(int64(0), chunks) as chunk, T.sblock("chunk"):
                self._chunk(T.axis.opaque(chunks, chunk, "int64") * self.shape.chunk)
            self._finish()
        return ib.get()

    def _buffers(self) -> None:
        shape = self.shape
        new = T.sblock_alloc_buffer
        self.query = new((shape.d, shape.tile), "float32", scope="shared")
        self.score = new((shape.chunk, shape.tile), "float32", scope="shared")
        self.across = new((shape.lanes, shape.tile), "float32", scope="shared")
        self.decay = new((shape.tile,), "float32", scope="shared")
        self.dot = new((shape.rounds, shape.tile), "float32", scope="local")
        self.sum = new((shape.rows, shape.wide), "float32", scope="local")
        self.peak, self.total, self.most = (new((1,), "float32", scope="local") for _ in range(3))

    def _start(self) -> None:
        """The queries of the tile into shared memory; nothing seen yet."""
        with self._each(self.shape.tile * self.shape.d) as i:
            e, r = i % self.shape.d, i // self.shape.d
            T.buffer_store(self.query, self.rows.query(self.head, self.first + r, e), [e, r])
        T.buffer_store(self.peak, _f32(LOWEST), [0])
        T.buffer_store(self.total, _f32(0), [0])
        with T.grid(*map(int64, self.sum.shape)) as (r, c):
            T.buffer_store(self.sum, _f32(0), [r, c])

    def _chunk(self, start: Expr) -> None:
        self._scores(start)
        self._show(start)
        self._softmax(start)
        if self.rows.all_see_the_same:
            self._mix("mix", start, seen_by_all=True)
            return
        # Of a chunk that some rows see in part, what they do not see may be anything.
        everybody = start + self.shape.chunk <= self.rows.limit_of(self.first)
        with T.If(everybody):
            with T.Then():
                self._mix("mix", start, seen_by_all=True)
            with T.Else():
                self._mix("edge", start, seen_by_all=False)

    def _scores(self, start: Expr) -> None:
        """A thread's positions by all rows of the tile, over the columns of the heads."""
        rounds, tile, d = self.shape.rounds, self.shape.tile, self.shape.d
        with T.sblock("scores_alone"):
            key = T.sblock_alloc_buffer((rounds, d), "float32", scope="local")
            with T.grid(int64(rounds), int64(d)) as (k, e), T.sblock("load_key"):
                vk, ve = _spatial(rounds, k), _spatial(d, e)
                T.buffer_store(key, self._key(self._position(start, vk), ve), [vk, ve])
            loops = T.grid(int64(rounds), int64(d), int64(tile))
            with loops as (k, e, r), T.sblock("scores"):
                vk, vr = _spatial(rounds, k), _spatial(tile, r)
                ve = T.axis.reduce(int64(d), e, "int64")
                with T.init():
                    T.buffer_store(self.dot, _f32(0), [vk, vr])
                product = self.query[ve, vr] * key[vk, ve]
                T.buffer_store(self.dot, self.dot[vk, vr] + product, [vk, vr])

    def _show(self, start: Expr) -> None:
        """Scores for all threads to see; what a row may not see is far below everything else."""
        with T.grid(*map(int64, self.dot.shape)) as (k, r):
            value = self.dot[k, r]
            if self.scales:
                value = value * self._scale(0, self._position(start, k))
            seen = start + self._place(k) < self.rows.limit_of(self.first + r)
            value = tirx.Select(seen, value, _f32(LOWEST))
            T.buffer_store(self.score, value, [self._place(k), r])

    def _softmax(self, start: Expr) -> None:
        """Scores become weights relative to the new maximum of their row."""
        row, lane = self._lane()
        T.buffer_store(self.most, _f32(LOWEST), [0])
        with self._of_a_lane(lane) as p:
            T.buffer_store(self.most, tirx.max(self.most[0], self.score[p, row]), [0])
        self._share(self.across, self.most[0], [lane, row])
        T.buffer_store(self.most, self.peak[0], [0])
        with T.serial(int64(0), int64(self.shape.lanes)) as other:
            higher = tirx.max(self.most[0], self.across[other, row])
            T.buffer_store(self.most, higher, [0])
        T.buffer_store(self.peak, tirx.exp2(self.peak[0] - self.most[0]), [0])
        T.buffer_store(self.total, self.total[0] * self.peak[0], [0])
        with T.If(self.thread < self.shape.tile), T.Then():
            T.buffer_store(self.decay, self.peak[0], [row])
        T.buffer_store(self.peak, self.most[0], [0])
        with self._of_a_lane(lane) as p:
            self._weigh(start, p, row)

    def _weigh(self, start: Expr, p: Expr, row: Expr) -> None:
        T.buffer_store(self.most, tirx.exp2(self.score[p, row] - self.peak[0]), [0])
        T.buffer_store(self.total, self.total[0] + self.most[0], [0])
        weight = self.most[0]
        if self.scales:  # the scales of the values go into the weights
            seen = start + p < self.rows.limit_of(self.first + row)
            scaled = weight * self._scale(1, self._clamped(start + p))
            weight = tirx.Select(seen, scaled, _f32(0))
        self._share(self.score, weight, [p, row])

    def _lane(self) -> tuple[Expr, Expr]:
        """The row that this thread helps with in the softmax, and as which of its threads. Those
        that are left over repeat what others do, and share nothing."""
        return self.thread % self.shape.tile, self.thread // self.shape.tile % self.shape.lanes

    def _share(self, buffer: tirx.Buffer, value: Expr, index: list[Expr]) -> None:
        """Store for all what a thread of the softmax has. The condition is around nothing but the
        store: a barrier must never end up inside of one."""
        busy = self.shape.lanes * self.shape.tile
        if busy == self.shape.threads:
            T.buffer_store(buffer, value, index)
        else:
            with T.If(self.thread < busy), T.Then():
                T.buffer_store(buffer, value, index)

    def _mix(self, name: str, start: Expr, seen_by_all: bool) -> None:
        """Weights times values: a thread's rows and columns, over its positions of the chunk."""
        count, rows, wide = self.shape.positions, self.shape.rows, self.shape.wide
        with T.sblock(f"{name}_alone"):
            kept = T.sblock_alloc_buffer((count, wide), "float32", scope="local")
            with T.grid(int64(count), int64(wide)) as (j, c), T.sblock(f"load_{name}"):
                vj, vc = _spatial(count, j), _spatial(wide, c)
                position = self._clamped(start + self._shared_place(vj))
                T.buffer_store(kept, self._value(position, self._column(vc)), [vj, vc])
            loops = T.grid(int64(count), int64(rows), int64(wide))
            with loops as (j, r, c), T.sblock(name):
                vr, vc = _spatial(rows, r), _spatial(wide, c)
                vj = T.axis.reduce(int64(count), j, "int64")
                row, place = self._row(vr), self._shared_place(vj)
                with T.init():
                    so_far = self.sum[vr, vc] * self.decay[row]
                    T.buffer_store(self.sum, so_far, [vr, vc])
                value = kept[vj, vc]
                if not seen_by_all:
                    seen = start + place < self.rows.limit_of(self.first + row)
                    value = tirx.Select(seen, value, _f32(0))
                product = self.score[place, row] * value
                T.buffer_store(self.sum, self.sum[vr, vc] + product, [vr, vc])

    def _finish(self) -> None:
        """Add up the parts, divide by the sum of the weights and drop the rows of the padding."""
        shape = self.shape
        with T.grid(*map(int64, self.sum.shape)) as (r, c):
            place = self._position_part() * shape.d + self._column(c)
            T.buffer_store(self.score, self.sum[r, c], [place, self._row(r)])
        row, lane = self._lane()
        self._share(self.across, self.total[0], [lane, row])
        with self._each(shape.tile * shape.d) as i:
            e, r = i % shape.d, i // shape.d
            value = _sum(self.score[part * shape.d + e, r] for part in range(shape.position_parts))
            total = _sum(self.across[lane, r] for lane in range(shape.lanes))
            self.rows.store(self.out, self.head, self.first + r, e, value / total)

    def _place(self, k: Expr) -> Expr:
        """Of the chunk, the k-th position of this thread."""
        return k * self.shape.threads + self.thread

    def _position(self, start: Expr, k: Expr) -> Expr:
        return self._clamped(start + self._place(k))

    def _clamped(self, position: Expr) -> Expr:
        return tirx.min(position, self.end - 1)

    def _shared_place(self, j: Expr) -> Expr:
        """Of the chunk, the j-th position that this thread adds up."""
        return j * self.shape.position_parts + self._position_part()

    def _row(self, r: Expr) -> Expr:
        """Of the tile, the r-th row of this thread."""
        return r * self.shape.row_parts + self.thread // self.shape.columns % self.shape.row_parts

    def _position_part(self) -> Expr:
        return self.thread // (self.shape.columns * self.shape.row_parts)

    def _column(self, c: Expr) -> Expr:
        return c * self.shape.columns + self.thread % self.shape.columns

    def _key(self, position: Expr, e: Expr) -> Expr:
        index = [self.head, position // LANES, e, position % LANES]
        return self.keys[tuple(index)].astype("float32")

    def _value(self, position: Expr, e: Expr) -> Expr:
        return self.values[self.head, position, e].astype("float32")

    def _scale(self, which: int, position: Expr) -> Expr:
        return self.scales[which][self.head, position // LANES, position % LANES]

    @contextmanager
    def _each(self, count: int) -> Iterator[Expr]:
        """Neighbouring threads take neighbouring numbers below `count`."""
        with T.serial(int64(0), int64(-(-count // self.shape.threads))) as k:
            i = self._place(k)
            if count % self.shape.threads == 0:
                yield i
            else:
                with T.If(i < count), T.Then():
                    yield i

    @contextmanager
    def _of_a_lane(self, lane: Expr) -> Iterator[Expr]:
        with T.serial(int64(0), int64(self.shape.chunk // self.shape.lanes)) as k:
            yield k * self.shape.lanes + lane


@contextmanager
def _bound(extent: Expr, thread: str) -> Iterator[Expr]:
    with T.thread_binding(int64(0), int64(extent), thread=thread) as var:
        yield var


def _spatial(extent: Expr | int, binding: Expr) -> Expr:
    return T.axis.spatial(int64(extent), binding, "int64")


def _ceil(value: Expr, unit: int) -> Expr:
    return (value + (unit - 1)) // unit


def _sum(terms: Iterator[Expr]) -> Expr:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


def _f32(value: float) -> tirx.FloatImm:
    return tirx.FloatImm("float32", value)
