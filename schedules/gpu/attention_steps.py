"""The steps of a workgroup of GPU attention: scores, softmax, product with the values, result.

For the scores, a thread owns positions of the chunk and computes all rows of them, so consecutive
threads read consecutive positions of a key panel. For the product with the values, a thread owns
one or more columns and shares the rows, or else the positions, with the other threads of these
columns. Only scores and per-row statistics go through shared memory, as vectors of up to four rows,
so one load serves four multiplications. Positions after the last visible one are not read: the last
visible position is read in their place, with a weight of zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..isa.register_tiles import LANES
from ..loops import ceil_div, int64, spatial
from .attention_buffers import Buffers, Operands
from .attention_thread import Thread
from .attention_workgroup import LOWEST, Workgroup
from .short_vectors import broadcast, element, f32, ramp, vector_of


@dataclass(frozen=True)
class Steps:
    """Emits the steps of one workgroup, in the order of `attention_nest`."""

    shape: Workgroup
    splits: int
    operands: Operands
    head: Expr
    thread: Thread
    split: Expr
    first: Expr  # first row of the tile
    end: Expr  # number of positions visible to some row
    buffers: Buffers

    def chunks(self) -> tuple[Expr, Expr]:
        """Index of the first chunk of this workgroup, and the number of chunks."""
        count = ceil_div(self.end, self.shape.chunk)
        if self.splits == 1:
            return int64(0), count
        share = ceil_div(count, self.splits)
        first = self.split * share
        return first, tirx.max(int64(0), tirx.min(share, count - first))

    def start(self) -> None:
        """Load the queries of the tile into shared memory and initialize the softmax."""
        b = self.buffers
        with self._each(self.shape.packs * self.shape.d) as i:
            first, e = query_place(self.shape, self.first, i)
            rows = [self.operands.query(self.head, first + r, e) for r in range(self.shape.pack)]
            T.buffer_store(b.query, vector_of(rows), [e, i // self.shape.d])
        T.buffer_store(b.peak, self._f32(LOWEST), [0])
        T.buffer_store(b.total, self._f32(0), [0])
        with T.grid(*map(int64, b.sum.shape)) as (r, c):
            T.buffer_store(b.sum, self._f32(0), [r, c])

    def chunk(self, start: Expr) -> None:
        self._scores(start)
        self._store_scores(start)
        self._softmax(start)
        self._stage(start)
        if self.operands.rows.has_uniform_limit:
            self._mix("mix", start, all_visible=True)
            return
        # If a chunk is only partly visible to some rows, its invisible values are undefined.
        fully_visible = start + self.shape.chunk <= self.operands.rows.limit_of(self.first)
        with T.If(fully_visible):
            with T.Then():
                self._mix("mix", start, all_visible=True)
            with T.Else():
                self._mix("edge", start, all_visible=False)

    def _scores(self, start: Expr) -> None:
        """Scores of the thread's positions for all rows of the tile: dot products over head_dim."""
        b = self.buffers
        rounds, packs, d = self.shape.rounds, self.shape.packs, self.shape.d
        with T.sblock("scores_alone"):
            key = T.sblock_alloc_buffer((rounds, d), "float32", scope="local")
            with T.grid(int64(rounds), int64(d)) as (k, e), T.sblock("load_key"):
                vk, ve = spatial(rounds, k), spatial(d, e)
                T.buffer_store(key, self._key(self._position(start, vk), ve), [vk, ve])
            loops = T.grid(int64(rounds), int64(d), int64(packs))
            with loops as (k, e, r), T.sblock("scores"):
                vk, vr = spatial(rounds, k), spatial(packs, r)
                ve = T.axis.reduce(int64(d), e, "int64")
                with T.init():
                    T.buffer_store(b.dot, self._f32(0), [vk, vr])
                product = b.query[ve, vr] * self._broadcast(key[vk, ve])
                T.buffer_store(b.dot, b.dot[vk, vr] + product, [vk, vr])

    def _store_scores(self, start: Expr) -> None:
        """Store the scores in shared memory; invisible positions get LOWEST."""
        b = self.buffers
        with T.grid(*map(int64, b.dot.shape)) as (k, pack):
            value = b.dot[k, pack]
            if self.operands.scales:
                value = value * self._broadcast(self._scale(0, self._position(start, k)))
            seen = self._seen(start + self.thread.place(k), pack)
            value = tirx.Select(seen, value, self._f32(LOWEST))
            T.buffer_store(b.score, value, [self.thread.place(k), pack])

    def _seen(self, position: Expr, pack: Expr) -> Expr:
        """Whether the position is visible, for each row of a pack."""
        first = self.first + pack * self.shape.pack
        return self._broadcast(position < self.operands.rows.limit_of(ramp(first, self.shape.pack)))

    def _softmax(self, start: Expr) -> None:
        """Replace scores by weights relative to the new maximum of their row."""
        b = self.buffers
        pack, which = self.thread.softmax_pack, self.thread.softmax_lane
        T.buffer_store(b.most, self._f32(LOWEST), [0])
        with self._of_a_lane(which) as p:
            T.buffer_store(b.most, tirx.max(b.most[0], b.score[p, pack]), [0])
        self._share(b.across, b.most[0], [which, pack])
        T.buffer_store(b.most, b.peak[0], [0])
        with T.serial(int64(0), int64(self.shape.lanes)) as other:
            higher = tirx.max(b.most[0], b.across[other, pack])
            T.buffer_store(b.most, higher, [0])
        T.buffer_store(b.peak, tirx.exp2(b.peak[0] - b.most[0]), [0])
        T.buffer_store(b.total, b.total[0] * b.peak[0], [0])
        self._share_row_value(b.peak[0])
        T.buffer_store(b.peak, b.most[0], [0])
        with self._of_a_lane(which) as p:
            self._weigh(start, p, pack)

    def _share_row_value(self, value: Expr) -> None:
        """Share a per-row value: the first thread of the row stores it for all threads."""
        with T.If(self.thread.number < self.shape.packs), T.Then():
            T.buffer_store(self.buffers.decay, value, [self.thread.softmax_pack])

    def _weigh(self, start: Expr, p: Expr, pack: Expr) -> None:
        b = self.buffers
        T.buffer_store(b.most, tirx.exp2(b.score[p, pack] - b.peak[0]), [0])
        T.buffer_store(b.total, b.total[0] + b.most[0], [0])
        weight = b.most[0]
        if self.operands.scales:  # fold the scales of the values into the weights
            scaled = weight * self._broadcast(self._scale(1, self._clamped(start + p)))
            weight = tirx.Select(self._seen(start + p, pack), scaled, self._f32(0))
        self._share(b.score, weight, [p, pack])

    def _share(self, buffer: tirx.Buffer, value: Expr, index: list[Expr]) -> None:
        """Store the value of a softmax thread in shared memory. The condition contains only the
        store, as a barrier must never be inside a condition."""
        surplus = self.thread.is_surplus
        if surplus is None:
            T.buffer_store(buffer, value, index)
        else:
            with T.If(tirx.Not(surplus)), T.Then():
                T.buffer_store(buffer, value, index)

    def _stage(self, start: Expr) -> None:
        """Copy the values of the chunk to shared memory, if the workgroup has a place for them."""
        values = self.buffers.values
        if values is None:
            return
        with self._each(self.shape.chunk * self.shape.d) as i:
            place, e = i // self.shape.d, i % self.shape.d
            value = self.operands.value(self.head, self._clamped(start + place), e)
            T.buffer_store(values, value.astype(values.dtype), [place, e])

    def _mix(self, name: str, start: Expr, all_visible: bool) -> None:
        """Weights times values: the thread's rows and columns, over its positions of the chunk."""
        b = self.buffers
        count, packs, wide = self.shape.positions, self.shape.packs_per_thread, self.shape.wide
        with T.sblock(f"{name}_alone"):
            kept = T.sblock_alloc_buffer((count, wide), "float32", scope="local")
            with T.grid(int64(count), int64(wide)) as (j, c), T.sblock(f"load_{name}"):
                vj, vc = spatial(count, j), spatial(wide, c)
                T.buffer_store(kept, self._value(start, vj, self.thread.column(vc)), [vj, vc])
            loops = T.grid(int64(count), int64(packs), int64(wide))
            with loops as (j, r, c), T.sblock(name):
                vr, vc = spatial(packs, r), spatial(wide, c)
                vj = T.axis.reduce(int64(count), j, "int64")
                pack, place = self.thread.pack(vr), self.thread.value_position(vj)
                with T.init():
                    so_far = b.sum[vr, vc] * b.decay[pack]
                    T.buffer_store(b.sum, so_far, [vr, vc])
                value = self._broadcast(kept[vj, vc])
                if not all_visible:
                    value = tirx.Select(self._seen(start + place, pack), value, self._f32(0))
                product = b.score[place, pack] * value
                T.buffer_store(b.sum, b.sum[vr, vc] + product, [vr, vc])

    def finish(self) -> None:
        """Add up the parts of the threads and store the result."""
        b = self.buffers
        shape = self.shape
        with T.grid(*map(int64, b.sum.shape)) as (r, c):
            place = self.thread.position_part * shape.d + self.thread.column(c)
            T.buffer_store(b.score, b.sum[r, c], [place, self.thread.pack(r)])
        pack, which = self.thread.softmax_pack, self.thread.softmax_lane
        self._share(b.across, b.total[0], [which, pack])
        self._share_row_value(b.peak[0])
        with self._each(shape.packs * shape.d) as i:
            e, pack = i % shape.d, i // shape.d
            parts = range(shape.position_parts)
            value = _sum(b.score[part * shape.d + e, pack] for part in parts)
            T.buffer_store(b.most, value, [0])
            total = _sum(b.across[other, pack] for other in range(shape.lanes))
            T.buffer_store(b.total, total, [0])
            for r in range(shape.pack):
                one = lambda vector, r=r: element(vector, r, shape.pack)  # noqa: E731
                row = pack * shape.pack + r
                self._store(
                    row,
                    e,
                    one(b.most[0]),
                    one(b.total[0]),
                    one(b.decay[pack]),
                )

    def _store(self, row: Expr, e: Expr, value: Expr, total: Expr, peak: Expr) -> None:
        """Store the result of a row, or the partial result that `merge_nest` combines."""
        if self.splits == 1:
            self.operands.rows.store(
                self.operands.outs[0], self.head, self.first + row, e, value / total
            )
            return
        sums, marks = self.operands.outs
        place = [self.split, self.head, row]
        T.buffer_store(sums, value, [*place, e])
        with T.If(e == 0), T.Then():
            T.buffer_store(marks, peak, [*place, 0])
            T.buffer_store(marks, total, [*place, 1])

    def _position(self, start: Expr, k: Expr) -> Expr:
        return self._clamped(start + self.thread.place(k))

    def _clamped(self, position: Expr) -> Expr:
        return tirx.min(position, self.end - 1)

    def _key(self, position: Expr, e: Expr) -> Expr:
        index = [self.head, position // LANES, e, position % LANES]
        return self.operands.keys[tuple(index)].astype("float32")

    def _value(self, start: Expr, j: Expr, e: Expr) -> Expr:
        place = self.thread.value_position(j)
        if self.buffers.values is not None:
            return self.buffers.values[place, e].astype("float32")
        return self.operands.value(self.head, self._clamped(start + place), e).astype("float32")

    def _broadcast(self, value: Expr) -> Expr:
        return broadcast(value, self.shape.pack)

    def _f32(self, value: float) -> Expr:
        return f32(value, self.shape.pack)

    def _scale(self, which: int, position: Expr) -> Expr:
        return self.operands.scales[which][self.head, position // LANES, position % LANES]

    @contextmanager
    def _each(self, count: int) -> Iterator[Expr]:
        """A loop over the indices below `count`; consecutive threads take consecutive indices."""
        with T.serial(int64(0), int64(-(-count // self.shape.threads))) as k:
            i = self.thread.place(k)
            if count % self.shape.threads == 0:
                yield i
            else:
                with T.If(i < count), T.Then():
                    yield i

    @contextmanager
    def _of_a_lane(self, lane: Expr) -> Iterator[Expr]:
        with T.serial(int64(0), int64(self.shape.chunk // self.shape.lanes)) as k:
            yield k * self.shape.lanes + lane


def query_place(shape: Workgroup, first: Expr, i: Expr) -> tuple[Expr, Expr]:
    """(first row of a pack, column) of element `i` of the queries, for the tile at row `first`."""
    return first + i // shape.d * shape.pack, i % shape.d


def _sum(terms: Iterator[Expr]) -> Expr:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first
