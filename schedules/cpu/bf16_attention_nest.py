"""The loop nest of attention in bfloat16 with float32 sums.

A task owns one or more blocks of 32 rows of a kv head and goes through chunks of positions with a
running maximum, like attention_nest.py. A chunk of a block has three parts: scores; their maxima,
in vectors, from the scores of a span while they are in the L1 cache; and weights, in vectors, times
values. The values have a column of ones, whose sum is that of the weights as rounded. How the two
products are computed is up to a subclass of `Block`: bf16_attention_tiles.py, in tile registers, or
bf16_attention_dots.py, in vectors.

The weight of a position that is not visible to a row is zero, and so is its product with any
number; compiler/ops/bf16_operands.py keeps other values out of the tiles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..isa.amx_instructions import TILE
from ..loops import ceil_div, f32, grid, int64, parts_of, spatial
from .attention_shape import whole
from .attention_tile import LOWEST
from .bf16_attention_shape import ROWS, SPAN, TileBuffers, TileShape
from .exponential import VECTOR, exp2, exp2_for_bfloat16

PANELS = SPAN // TILE


def attention_nest(shape: TileShape, block: type[Block]) -> None:
    """Emit the nest into the enclosing block."""
    groups = ceil_div(shape.tiling.tiles, shape.blocking.blocks)
    tasks = shape.kv_heads * groups
    with grid(tasks) as (number,), T.sblock("task"):
        number = spatial(tasks, number)
        T.reads(*map(whole, shape.operands.inputs))
        T.writes(whole(shape.operands.out))
        with block.scope(shape):
            _Task(shape, block, shape.buffers(), *parts_of(number, groups)).run()


@dataclass(frozen=True)
class _Task:
    """Emits the work on a group of blocks, which share each chunk while it is in the cache."""

    shape: TileShape
    block: type[Block]
    kept: TileBuffers
    head: Expr
    group: Expr

    def run(self) -> None:
        chunk = self.shape.blocking.chunk
        with self._blocks() as block:
            block.start()
        chunks = T.serial(int64(0), ceil_div(self._spans(), chunk))
        with chunks as number, self._blocks() as block:
            block.attend(number * chunk)
        with self._blocks() as block:
            block.finish()

    @contextmanager
    def _blocks(self) -> Iterator[Block]:
        """The loop over the blocks of the group."""
        count = self.shape.blocking.blocks
        if count == 1:
            yield self.block(self.shape, self.kept, self.head, self.group, int64(0))
            return
        with grid(count) as (place,):
            block = self.group * count + place
            with T.If(block < self.shape.tiling.tiles), T.Then():
                yield self.block(self.shape, self.kept, self.head, block, place)

    def _spans(self) -> Expr:
        """Spans that some row of the group sees; later rows see at least as many."""
        blocks = self.shape.blocking.blocks
        return self.shape.spans((self.group * blocks + (blocks - 1)) * ROWS)


@dataclass(frozen=True)
class Block(ABC):
    """Emits the work on one block of rows."""

    shape: TileShape
    kept: TileBuffers
    head: Expr
    block: Expr
    place: Expr
    """Where the task keeps the sums and maxima of the block."""

    @property
    def row(self) -> Expr:
        return self.block * ROWS

    def start(self) -> None:
        kept = self.kept
        with grid(ROWS) as (r,):
            T.buffer_store(kept.peak, f32(LOWEST), [self.place, r])
        with grid(self.shape.columns, ROWS) as (c, r):
            put(kept.mixed, fill(0.0), self.place, c, r)

    def attend(self, first: Expr) -> None:
        """Go through the chunk that starts at span `first`."""
        shape = self.shape
        spans = shape.spans(self.row)
        seen = shape.in_chunk(first, spans)
        with _once(shape.blocking.blocks == 1, first < spans):
            self._scores(first, shape.in_chunk(first, shape.whole_spans(self.row)), seen)
            self._raise_peaks()
            self.mix(first, seen)

    @staticmethod
    def scope(shape: TileShape) -> AbstractContextManager[None]:
        """What the code of a task is emitted in."""
        return nullcontext()

    @abstractmethod
    def score(self, first: Expr, span: Expr) -> None:
        """Store the scores of the 32 rows and the 32 positions of a span of the chunk."""

    @abstractmethod
    def mix(self, first: Expr, seen: Expr) -> None:
        """Compute the weights of the chunk (`weigh`), and add weights times values to the sums."""

    # --- scores and their maxima ---

    def _scores(self, first: Expr, full: Expr, seen: Expr) -> None:
        with grid(ROWS) as (r,):
            put(self.kept.lanes, fill(LOWEST), r)
        with T.serial(int64(0), full) as span:
            self.score(first, span)
            self._maxima(span)
        with T.serial(full, seen) as span:
            self.score(first, span)
            self._mask(first, span)
            self._maxima(span)

    def _mask(self, first: Expr, span: Expr) -> None:
        """Set the scores of invisible positions to LOWEST."""
        score, limit = self.kept.score, self.shape.tiling.row_limit
        with grid(PANELS, ROWS) as (p, r), T.vectorized(int64(0), int64(TILE)) as lane:
            at, panel = (first + span) * SPAN + p * TILE + lane, span * PANELS + p
            masked = tirx.Select(at < limit(self.row + r), score[panel, r, lane], f32(LOWEST))
            T.buffer_store(score, masked, [panel, r, lane])

    def _maxima(self, span: Expr) -> None:
        score, lanes = self.kept.score, self.kept.lanes
        with grid(ROWS) as (r,):
            highest = get(lanes, r)
            for p in range(PANELS):
                highest = tirx.max(highest, get(score, span * PANELS + p, r))
            put(lanes, highest, r)

    def _raise_peaks(self) -> None:
        """Raise the maxima that the scores of the chunk exceed, and rescale the sums."""
        kept, slack = self.kept, f32(self.shape.blocking.slack)
        with grid(ROWS) as (r,):
            _across_lanes(kept.lanes, r)
            T.buffer_store(kept.highest, kept.lanes[r, 0], [r])
        at = self.place
        with grid(ROWS) as (r,), T.If(kept.highest[r] > kept.peak[at, r] + slack), T.Then():
            T.buffer_store(kept.factor, exp2(kept.peak[at, r] - kept.highest[r]), [0])
            T.buffer_store(kept.peak, kept.highest[r], [at, r])
            with grid(self.shape.columns) as (c,):
                factor = tirx.Broadcast(kept.factor[0], TILE)
                put(kept.mixed, get(kept.mixed, at, c, r) * factor, at, c, r)

    # --- weights ---

    def weigh(self, span: Expr, tile: int, tiles: int) -> None:
        """Pairs of weights of some row tiles, relative to the maxima of their rows."""
        score, weight = self.kept.score, self.kept.weight
        upper, half = (fill(value, "uint32") for value in (0xFFFF0000, 16))
        with T.serial(int64(tile * TILE), int64((tile + tiles) * TILE)) as r:
            peak = tirx.Broadcast(self.kept.peak[self.place, r], TILE)
            low, high = (
                tirx.reinterpret("uint32x16", self._exponential(get(score, at, r) - peak))
                for at in (span * PANELS, span * PANELS + 1)
            )
            put(weight, (high & upper) | (low >> half), span, r)

    def _exponential(self, x: Expr) -> Expr:
        return exp2_for_bfloat16(x, bool(self.shape.blocking.exponential))

    def finish(self) -> None:
        """Divide by the sums of the weights and drop the padding rows."""
        shape, kept, d, at = self.shape, self.kept, self.shape.d, self.place
        group = shape.tiling.group
        count = tirx.min(int64(ROWS), shape.tiling.queries * group - self.row)
        with T.serial(int64(0), count) as r:
            query, head = (self.row + r) // group, self.head * group + (self.row + r) % group
            T.buffer_store(kept.factor, f32(1) / kept.mixed[at, d // TILE, r, d % TILE], [0])
            for c in range(0, d, TILE):
                with T.vectorized(int64(0), int64(min(TILE, d - c))) as e:
                    result = kept.mixed[at, c // TILE, r, e] * kept.factor[0]
                    T.buffer_store(shape.operands.out, result, [query, head * d + c + e])


@contextmanager
def _once(always: bool, condition: Expr) -> Iterator[None]:
    """What is emitted inside runs if the condition holds, or without looking at it."""
    if always:
        yield
        return
    with T.If(condition), T.Then():
        yield


def _across_lanes(lanes: tirx.Buffer, r: Expr) -> None:
    """Set all lanes of row r to their maximum, in four steps.

    `llvm.vector.reduce.fmax` would compare lane after lane, to treat NaN as IEEE 754 prescribes.
    """
    for distance in (8, 4, 2, 1):
        own = get(lanes, r)
        order = [tirx.const(lane ^ distance, "int32") for lane in range(TILE)]
        put(lanes, tirx.max(own, tirx.Shuffle([own], order)), r)


def fill(value: float, dtype: str = "float32") -> Expr:
    """A vector of 16 equal lanes."""
    return tirx.Broadcast(tirx.const(value, dtype), TILE)


def get(buffer: tirx.Buffer, *place: Expr | int) -> Expr:
    """The vector of 16 lanes at `place`."""
    return buffer.vload([*map(int64, place), int64(0)], VECTOR)


def put(buffer: tirx.Buffer, value: Expr, *place: Expr | int) -> None:
    """Store 16 lanes at `place`."""
    T.buffer_store(buffer, value, [*map(int64, place), T.ramp(int64(0), 1, TILE)])
