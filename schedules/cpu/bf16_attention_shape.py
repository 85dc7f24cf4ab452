"""Sizes and buffers of attention in bfloat16, whose operands are tiles.

Positions come in spans of 32: two panels of keys, which are two tiles of scores, and one step of
the product with the values. Rows come in blocks of 32, two row tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..isa.amx_instructions import BFLOAT16, TILE
from ..isa.bf16_dot import Bf16Dot
from ..loops import ceil_div, int64
from .attention_shape import Tiling, new

SPAN = BFLOAT16.inputs
ROWS = 2 * TILE
"""Rows of a block."""
TILED = "handglass.tiled"
"""Block annotation with what the nest needs: [d, limit(0), step of the limit]."""


@dataclass(frozen=True)
class TileBlocking:
    """How a task goes through its rows and positions."""

    chunk: int = 32
    """Spans whose scores are kept at once."""
    blocks: int = 1
    """Blocks of rows of a task, at most: they share each chunk while it is in the cache."""
    row_tiles: int = 2
    """Row tiles whose sums are in registers together: 1 with up to five columns, 2 with two."""
    fused: int = 1
    """Whether weights are computed between the products with the values, or before them."""
    slack: int = 8
    """A maximum is raised, and sums rescaled, when scores exceed it by more than this power of two;
    weights are then up to 2^slack, which floats represent just as well."""
    streamed: int = 0
    """1: keys and values are loaded past the L1 cache, which leaves it to scores and weights."""
    exponential: int = 0
    """1: with instructions of AVX-512, 0: without."""
    dot_sums: int = 0
    """Dot products: vectors of sums in registers, rows times `dot_vectors`."""
    dot_vectors: int = 1
    """Dot products: vectors of 16 positions or columns that a word of a row is multiplied with."""
    dot_pairs: int = 4
    """Dot products: pairs of inputs per iteration."""
    dot: Bf16Dot | None = None
    """The instruction for dot products, of a CPU without tile registers; not a choice."""


@dataclass(frozen=True)
class TileOperands:
    """The arguments of the nest; `tiles` is in tiles of 16 rows, `columns` in tiles of 16."""

    rows: tirx.Buffer  # (h_kv, tiles, steps, 16, 32) uint16
    keys: tirx.Buffer  # (h_kv, spans, 2, steps, 16, 16) uint32
    values: tirx.Buffer  # (h_kv, spans, columns, 16, 16) uint32
    out: tirx.Buffer  # (queries, h_kv * group * d) float32

    @property
    def inputs(self) -> tuple[tirx.Buffer, ...]:
        return (self.rows, self.keys, self.values)


@dataclass(frozen=True)
class TileBuffers:
    """Buffers of a task."""

    score: tirx.Buffer  # (2 * chunk, 32, 16), tiles of scores
    weight: tirx.Buffer  # (chunk, 32, 16) uint32, pairs of weights of positions i and i + 16
    mixed: tirx.Buffer  # (blocks, columns, 32, 16), sums of weights times values
    lanes: tirx.Buffer  # (32, 16), maxima of the chunk by lane
    highest: tirx.Buffer  # (32,), maxima of the chunk
    peak: tirx.Buffer  # (blocks, 32), what is subtracted from scores
    factor: tirx.Buffer  # (1,)


@dataclass(frozen=True)
class TileShape:
    """What all parts of the nest refer to."""

    tiling: Tiling
    d: int
    blocking: TileBlocking
    operands: TileOperands

    @property
    def steps(self) -> int:
        """Steps of 32 columns of a head."""
        return steps_of(self.d)

    @property
    def columns(self) -> int:
        return columns_of(self.d)

    @cached_property
    def kv_heads(self) -> int:
        return int(self.operands.rows.shape[0])

    def spans(self, row: Expr) -> Expr:
        """Spans with a position that is visible to some row of the block that starts at `row`."""
        return ceil_div(self.tiling.row_limit(row + (ROWS - 1)), SPAN)

    def whole_spans(self, row: Expr) -> Expr:
        """Spans that all rows of the block see entirely."""
        return self.tiling.row_limit(row) // SPAN

    def in_chunk(self, first: Expr, count: Expr) -> Expr:
        """Number of the first `count` spans that belong to the chunk starting at span `first`."""
        return tirx.max(int64(0), tirx.min(int64(self.blocking.chunk), count - first))

    def buffers(self) -> TileBuffers:
        chunk, blocks = self.blocking.chunk, self.blocking.blocks
        return TileBuffers(
            score=new(2 * chunk, ROWS, TILE),
            weight=T.sblock_alloc_buffer((chunk, ROWS, TILE), "uint32"),
            mixed=new(blocks, self.columns, ROWS, TILE),
            lanes=new(ROWS, TILE),
            highest=new(ROWS),
            peak=new(blocks, ROWS),
            factor=new(1),
        )


def steps_of(d: int) -> int:
    """Steps of 32 columns, the last one padded with zeros."""
    return -(-d // BFLOAT16.inputs)


def columns_of(d: int) -> int:
    """Tiles of 16 columns of values. Column d is one, so that its sum is that of the weights."""
    return d // TILE + 1
