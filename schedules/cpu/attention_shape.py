"""The operands and sizes of attention on a CPU, and the buffers of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..isa.register_tiles import LANES
from ..isa.score_products import ScoreProducts
from ..loops import ceil_div, f32, int64

CHUNK, TILES = 8, 4
"""Defaults: panels of 16 positions per chunk, and tiles of rows per task."""
KEYS, VALUES = 1, 2
"""Bits of `Blocking.staged`."""
NEITHER, BOTH = 0, KEYS | VALUES

TILING = "handglass.tiling"
"""Block annotation with what a nest of another blocking needs: [tile, limit(0), step].

limit(i) is limit(0) + step i.
"""

Limit = Callable[[Expr], Expr]
"""Query i attends to the positions below limit(i), which is at least 1 and non-decreasing."""


@dataclass(frozen=True)
class Tiling:
    """Rows are pairs (query, head of the group); each tile has `tile` rows of one kv head."""

    queries: Expr
    group: int
    tile: int
    limit: Limit

    @property
    def tiles(self) -> Expr:
        return (self.queries * self.group + (self.tile - 1)) // self.tile

    def row_limit(self, row: Expr) -> Expr:
        """Number of positions visible to a row; padding rows have the limit of the last query."""
        return int64(self.limit(tirx.min(row // self.group, self.queries - 1)))


@dataclass(frozen=True)
class Blocking:
    """How the tasks go through rows and positions."""

    chunk: int
    """Panels of 16 positions per chunk."""
    tiles: int
    """Tiles of rows per task: they share each chunk of keys and values while it is in the cache."""
    staged: int
    """What of a chunk is first converted to float32, as bits: KEYS, VALUES."""
    parts: int = 1
    """Parts of the positions, each a task of its own; more than one only for one query."""
    passes: int = 1
    """1: the maximum of a row is corrected chunk by chunk; 2: it is found before any weight."""
    products: ScoreProducts | None = None
    """What multiplies queries and keys that are integers; not a choice."""
    score_rows: int = 0
    """Integer scores: rows of a register tile, which divide those of a tile."""
    score_unroll: int = 0
    """Integer scores: steps of the reduction that are unrolled."""


def default_blocking(tiling: Tiling, kept: str, products: ScoreProducts | None = None) -> Blocking:
    """The blocking of keys and values of dtype `kept` if nobody chooses another."""
    tiles = tiles_of_task(tiling, TILES)
    found = Blocking(CHUNK, tiles, BOTH if tiles > 1 and kept != "float32" else NEITHER)
    if products is None:
        return found
    rows = max(n for n in range(1, products.rows + 1) if tiling.tile % n == 0)
    return replace(found, products=products, score_rows=rows, score_unroll=products.unroll)


def tiles_of_task(tiling: Tiling, tiles: int) -> int:
    """`tiles`, or as many as there are."""
    return min(tiles, int(tiling.tiles)) if isinstance(tiling.tiles, tirx.IntImm) else tiles


@dataclass(frozen=True)
class Coded:
    """What integer queries and keys are multiplied by."""

    row_scales: tirx.Buffer  # (h_kv, rows)
    key_scales: tirx.Buffer  # (h_kv, panels, 16)


@dataclass(frozen=True)
class Operands:
    """The arguments of the nest."""

    rows: tirx.Buffer  # (h_kv, tiles * tile, d); integers: (h_kv, rows, depth), for any tile
    keys: tirx.Buffer  # (h_kv, panels, d, 16); integers: (h_kv, panels, steps, 16, step)
    values: tirx.Buffer  # (h_kv, positions, d)
    scales: tuple[tirx.Buffer, ...]  # of int8 keys and values, (h_kv, panels, 16) float32 each
    out: tirx.Buffer  # (queries, h_kv * group * d)
    coded: Coded | None = None  # if scores are products of integers

    @property
    def inputs(self) -> tuple[tirx.Buffer, ...]:
        coded = (self.coded.row_scales, self.coded.key_scales) if self.coded else ()
        return (self.rows, self.keys, self.values, *self.scales, *coded)


@dataclass(frozen=True)
class Buffers:
    """Buffers of a task, in order of allocation."""

    score: tirx.Buffer
    mixed: tirx.Buffer
    seam: tirx.Buffer
    sum: tirx.Buffer
    total: tirx.Buffer
    peak: tirx.Buffer
    decay: tirx.Buffer
    lanes: tirx.Buffer
    keys: tirx.Buffer | None  # float32 keys of the chunk, if staged
    values: tirx.Buffer | None


@dataclass(frozen=True)
class Shape:
    """What all parts of the nest refer to."""

    tiling: Tiling
    blocking: Blocking
    operands: Operands

    @cached_property
    def kv_heads(self) -> int:
        return int(self.operands.rows.shape[0])

    @cached_property
    def d(self) -> int:
        return int(self.operands.values.shape[2])

    @property
    def tile(self) -> int:
        return self.tiling.tile

    @property
    def height(self) -> int:
        """Rows of a task."""
        return self.blocking.tiles * self.tile

    @property
    def blocks(self) -> Expr:
        """Tasks of a kv head and a part of the positions."""
        return ceil_div(self.tiling.tiles, self.blocking.tiles)

    def end(self, row: Expr) -> Expr:
        """Number of positions visible to the rows before `row`."""
        return self.tiling.row_limit(row - 1)

    def in_chunk(self, block: Expr, count: Expr) -> Expr:
        """Number of the first `count` panels that belong to the chunk starting at panel `block`."""
        return tirx.max(int64(0), tirx.min(int64(self.blocking.chunk), count - block))

    def buffers(self) -> Buffers:
        chunk, d, staged = self.blocking.chunk, self.d, self.blocking.staged
        return Buffers(
            score=new(chunk, self.tile, LANES),
            mixed=new(self.tile, d),
            seam=new(self.tile, d),
            sum=new(self.height, d),
            total=new(self.height, LANES),
            peak=new(self.height),
            decay=new(self.tile),
            lanes=new(LANES),
            keys=new(chunk, d, LANES) if staged & KEYS else None,
            values=new(chunk * LANES, d) if staged & VALUES else None,
        )

    @contextmanager
    def columns(self) -> Iterator[Expr]:
        """A loop over the head_dim columns, in vectors of up to 16."""
        width = next(n for n in (16, 8, 4, 2, 1) if self.d % n == 0)
        with T.serial(int64(0), int64(self.d // width)) as outer:
            if width == 1:
                yield outer
            else:
                with T.vectorized(int64(0), int64(width)) as inner:
                    yield outer * width + inner


def new(*shape: Expr | int) -> tirx.Buffer:
    """A float32 buffer of the enclosing block."""
    return T.sblock_alloc_buffer(shape, "float32")


def lanes():
    """A vector of 16 positions."""
    return T.vectorized(int64(0), int64(LANES))


def across(reduction: str, vector: tirx.Buffer) -> Expr:
    """Maximum or sum across the 16 lanes of a vector."""
    loaded = vector.vload([int64(0)], f"float32x{LANES}")
    start = [f32(0)] if reduction == "fadd" else []
    name = f"llvm.vector.reduce.{reduction}"
    return tirx.call_llvm_pure_intrin("float32", name, *start, loaded)


def whole(buffer: tirx.Buffer):
    """The region of all elements."""
    return buffer[tuple(slice(int64(0), size) for size in buffer.shape)]
