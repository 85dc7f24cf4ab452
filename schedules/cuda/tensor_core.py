"""Matmul of many rows on tensor cores: float16 with float32 sums, or bytes with int32 sums.

A workgroup of several warps owns a tile of outputs. Copies of both operands to shared memory run
ahead of the products (`cp.async`): while the warps multiply the inputs of one step, those of the
next `stages` - 1 steps arrive. Each warp owns every `down`-th band of 16 rows and a strip of
columns, and keeps its sums in registers throughout the reduction. In the end, a band per warp at a
time, they pass through shared memory, where the epilogue (bias, activation, residual) is applied in
the order of memory.

Weights of 4 bits are copied as they are, with their scales, and dequantized to float16 in the
registers of the warp that multiplies them. By default no two warps share columns, so that each code
is dequantized once per workgroup.

Padding keeps what a warp reads at once in different banks of shared memory: rows of inputs are 16
bytes apart, modulo 128, for the eight rows of ldmatrix; so are rows of float16 columns. Rows of
words are 32 bytes apart, as a load takes 64 bytes of four rows in two parts, and rows of sums as
their stores need it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..gpu.limits import GpuLimits, gpu_limits
from ..gpu.matrices import whole_matrices
from ..gpu.threads import (
    ORDERS,
    QUAD,
    ROWS_FIRST,
    WORD,
    bind_tiles,
    depth_of,
    halved,
    keep_apart,
    pick,
    pick_order,
    spread,
)
from ..isa.integer_isa import GROUP
from ..rule import BY_TWOS, Rule, find
from ..tiling import inline_epilogue, is_one
from .copies import OPERANDS, copied, copy_of
from .fragments import BYTES, DEQUANTIZED, HALVES, RESULTS, SIDE, WARP, Fragments, intrinsic
from .int4 import dequantize

TILES, DEPTHS, STAGES, WARPS = (64, 128), (64, 128), (2, 4), (1, 2, 4)
"""Offered rows and columns of a tile, bytes of a row of a step, steps and warps."""
OF_A_WARP = 64 * 64
"""Most sums of a warp: 128 registers of each lane, of at most 255."""
APART = 8
"""Columns between the rows of a tile in shared memory."""


@dataclass(frozen=True)
class Tile:
    """The tile of a workgroup, its steps of the reduction, and its grid of warps."""

    of: Fragments
    rows: int
    columns: int
    depth: int
    """Inputs of a step, counted in the stored type."""
    stages: int
    """Steps that are in shared memory at once."""
    down: int
    across: int
    order: int = ROWS_FIRST
    """Order of workgroups."""

    @property
    def threads(self) -> tuple[int, int]:
        return self.down * self.across, WARP

    @property
    def bytes(self) -> int:
        """Shared memory: the operands of all stages, and a band of sums per warp."""
        width = self.columns + APART
        rows = self.rows * (self.depth + self.of.copied) * self.of.size
        columns = self.depth * width * self.of.size
        if self.of is DEQUANTIZED:  # words and scales
            columns = (self.depth * WORD // 8 + self.depth * 2 // GROUP) * width
        sums = WORD * SIDE * self.down * (self.columns + self.of.apart)
        return (rows + columns) * self.stages + sums


def tensor_core(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule one packed matmul with its epilogue.

    Returns False for one row, for other types, or without tensor cores.
    """
    found = [block for pattern in PATTERNS for block in find(sch, pattern)]
    limits = gpu_limits(target)
    if len(found) != 1 or not limits.tensor or not (of := fragments_of(sch)):
        return False
    if is_one(sch.get(sch.get_loops(found[0])[0]).extent):
        return False
    tile = pick_tile(sch, found[0], of, limits, choices)
    last = inline_epilogue(sch, found[0])
    _schedule(sch, found[0], last, tile)
    return True


def fragments_of(sch: Schedule) -> Fragments | None:
    """The arithmetic, if what is copied to shared memory is copied as it is stored."""
    copies = [*find(sch, "rows"), *_copied_columns(sch)]
    types = [_types_of(sch, stage) for stage in copies]
    if types == [{"float16"}, {"uint32"}, {"float16"}]:
        return DEQUANTIZED
    return next((of for of in (HALVES, BYTES) if types == [{of.type(use)} for use in "ab"]), None)


def _types_of(sch: Schedule, stage) -> set[str]:
    """The types that a stage reads and writes."""
    block = sch.get(stage)
    return {str(region.source.dtype) for region in (*block.reads, *block.writes)}


def _copied_columns(sch: Schedule) -> list:
    """The stages that copy weights: words and scales to be dequantized, or columns."""
    return [*find(sch, "words"), *find(sch, "scales")] or find(sch, "columns")


def pick_tile(sch: Schedule, block, of: Fragments, limits: GpuLimits, choices: Choices) -> Tile:
    """Pick a tile that fits the reduction and shared memory."""
    inputs = int(sch.get(sch.get_loops(block)[2]).extent)
    rows = pick(sch, choices, "rows", TILES, 128)
    columns = pick(sch, choices, "columns", TILES, 128)
    depth = pick(sch, choices, "depth", DEPTHS, 128) // of.size
    stages = pick(sch, choices, "stages", STAGES, 2)
    down = pick(sch, choices, "down", WARPS, 1 if of is DEQUANTIZED else 2)
    across = pick(sch, choices, "across", WARPS, 4 if of is DEQUANTIZED else 2)
    across = max(across, rows * columns // down // OF_A_WARP)
    order = pick_order(sch, choices)
    depth = halved(depth, lambda n: 2 * n <= inputs)
    stages = 2 * halved(stages // 2, lambda n: 2 * n * depth <= inputs)
    return _fitting(Tile(of, rows, columns, depth, stages, down, across, order), limits.optin)


def _fitting(tile: Tile, memory: int) -> Tile:
    """The tile, smaller if it exceeds the shared memory."""
    smaller: tuple[Callable[[Tile], Tile], ...] = (
        lambda t: replace(t, stages=STAGES[0]),
        lambda t: replace(t, depth=DEPTHS[0] // t.of.size),
        lambda t: replace(t, rows=TILES[0]),
        lambda t: replace(t, columns=TILES[0]),
    )
    for shrink in smaller:
        tile = tile if tile.bytes <= memory else shrink(tile)
    return tile


def _schedule(sch: Schedule, block, last, tile: Tile) -> None:
    whole = int(sch.get(sch.get_loops(last)[-1]).extent) % tile.columns == 0
    group_row, outer, group, step, band, inside = _split(sch, block, tile)
    sums = sch.cache_write(block, 0, "local")
    sch.set_scope(sums, 0, RESULTS)
    sch.reverse_compute_at(sums, group_row)
    _finish(sch, sums, last, tile, QUAD if whole else 1)
    made = find(sch, "columns") if tile.of is DEQUANTIZED else []
    for stage in made:
        sch.compute_at(stage, group, preserve_unit_loops=True)
    _fetch(sch, outer, tile)
    for stage in made:
        _dequantize(sch, stage, group)
    for n, loop in enumerate((band, step) if tile.of.load_b else (band,)):
        held = sch.cache_read(block, n, "local")
        sch.compute_at(held, loop, preserve_unit_loops=True)
        matrix = whole_matrices(sch, held, tile.of.shape("ab"[n]))
        sch.tensorize(matrix, intrinsic(f"load_{'ab'[n]}", tile.of))
    zero = sch.decompose_reduction(block, outer)
    sch.tensorize(whole_matrices(sch, zero, None), intrinsic("fill", tile.of))
    sch.tensorize(inside, intrinsic("multiply", tile.of))


def _split(sch: Schedule, block, tile: Tile) -> tuple:
    """Split the loops for workgroups, warps and matrices.

    Returns the loops over rows of workgroups, over steps of the reduction, over pairs of matrices
    and over matrices in a step, over bands, and the outermost loop inside a matrix.
    """
    i, j, k = sch.get_loops(block)
    inputs = tile.of.inputs
    group_row, band, y, i = sch.split(i, [None, tile.rows // tile.down // SIDE, tile.down, SIDE])
    strip = tile.columns // tile.across // SIDE
    group_column, x, column, j = sch.split(j, [None, tile.across, strip, SIDE])
    outer, group, step, k = sch.split(k, [None, tile.depth // inputs // 2, 2, inputs])
    sch.reorder(group_column, group_row, y, x, outer, group, step, band, column, i, j, k)
    bind_tiles(sch, group_column, group_row, tile.order)
    sch.bind(sch.fuse(y, x), "threadIdx.y")
    for loop in (group, step, band, column):
        sch.unroll(loop)
    return group_row, outer, group, step, band, i


def _finish(sch: Schedule, sums, last, tile: Tile, width: int) -> None:
    """Store a band of sums per warp, then apply the epilogue to them; then the next."""
    row, column = sch.get_loops(sums)[-2:]
    band, y, row = sch.split(row, [None, tile.down, SIDE])
    sch.unroll(band)
    sch.reverse_compute_at(last, band)
    x, strip, column = sch.split(column, [tile.across, None, SIDE])
    sch.reorder(y, x, strip, row, column)
    sch.bind(sch.fuse(y, x), "threadIdx.y")
    sch.unroll(strip)
    matrix = sch.blockize(row)
    keep_apart(sch, matrix, tile.of.apart)  # of the new block: that of the old one would be lost
    sch.tensorize(matrix, intrinsic("store", tile.of))
    row, column = sch.get_loops(last)[-2:]
    # also if the matrix has fewer columns: TVM can analyse powers of two
    spread(sch, [row, *sch.split(column, [None, tile.columns])], tile.threads, width)


def _fetch(sch: Schedule, outer, tile: Tile) -> None:
    """Copy the operands of a step to shared memory, ahead of the products of previous steps."""
    (rows,), weights = find(sch, "rows"), _copied_columns(sch)
    for stage in (rows, *weights):
        sch.set_scope(stage, 0, OPERANDS)
        sch.compute_at(stage, outer, preserve_unit_loops=True)
    _copy(sch, rows, outer, tile, tile.of.copied)
    for stage in weights:
        _copy(sch, stage, outer, tile, APART)
    stages = [*[0] * (1 + len(weights)), tile.stages - 1]
    sch.annotate(outer, "software_pipeline_stage", stages)
    sch.annotate(outer, "software_pipeline_order", [*range(len(stages))])
    sch.annotate(outer, "software_pipeline_async_stages", [0])
    sch.annotate(outer, BY_TWOS, tile.of is DEQUANTIZED and tile.stages == 2)


def _copy(sch: Schedule, stage, outer, tile: Tile, apart: int) -> None:
    """Copy 16 bytes per thread at a time; `apart` pads a row of the copy."""
    stored = str(sch.get(stage).writes[0].source.dtype)
    lane = sch.split(sch.get_loops(stage)[-1], [None, copied(stored)])[1]
    block = sch.blockize(lane)
    keep_apart(sch, block, apart)
    _by_warps(sch, block, copy_of(stored), outer, tile)


def _dequantize(sch: Schedule, stage, group) -> None:
    """Dequantize a group of inputs of the warp's columns, 16 columns at a time."""
    sch.set_scope(stage, 0, "local")
    half, column, code = sch.get_loops(stage)[depth_of(sch, group) :]
    strip, column = sch.split(column, [None, SIDE])
    sch.reorder(strip, half, column, code)
    sch.unroll(strip)
    sch.tensorize(half, dequantize())


def _by_warps(sch: Schedule, block, name: str, outer, tile: Tile) -> None:
    """Replace a block by an intrinsic and bind its loops inside `outer` to the threads."""
    hint = sch.get(block).name_hint
    sch.tensorize(block, name)  # before a split leaves a predicate, which an intrinsic accepts not
    fused = sch.fuse(*sch.get_loops(sch.get_sblock(hint))[depth_of(sch, outer) :])
    rounds, y, x = sch.split(fused, [None, *tile.threads])
    sch.bind(y, "threadIdx.y")
    sch.bind(x, "threadIdx.x")
    sch.unroll(rounds)


OFFERS = {
    "rows": TILES,
    "columns": TILES,
    "depth": DEPTHS,
    "stages": STAGES,
    "down": WARPS,
    "across": WARPS,
    "order": ORDERS,
}
PATTERNS = ("matmul", "dot7", "dot8")
RULE = Rule("gpu-tensor", tensor_core, frozenset(PATTERNS), offers=OFFERS)
