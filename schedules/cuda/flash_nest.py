"""The loop nest of attention on tensor cores: rounded copies of the operands, and the workgroups.

What differs between models, how an element of a query, a key or a value is read, is written as
loops; what the warps do with them is a device function (flash_functions.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as S
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from ..gpu.attention_rows import Read
from ..gpu.half import lost_by_half, to_half
from ..isa.register_tiles import LANES
from ..loops import bound, ceil_div, int64, spatial
from ..rule import PATTERN
from .copies import OPERANDS
from .flash_functions import CODE, NAME
from .flash_operands import FlashOperands, Positions
from .flash_shape import CODES, FLOAT, FLOATS, HALF, HALVES, Flash
from .fragments import SIDE

THREADS = 256
QUAD = 4
TILES = {
    **dict.fromkeys(("", HALVES), "HandglassFlash"),
    CODES: "HandglassFlashCodes",
    FLOATS: "HandglassFlashFloats",
}
"""The device code of a workgroup, by the type of the cache that is read as it is."""
TILES_FIRST, HEADS_FIRST, LAST_FIRST = range(3)
"""Order of workgroups: tiles of a head after each other, which share its keys and values; heads
after each other; or tiles from the last, which sees most positions of a causal prompt."""


def write_rounding(operands: FlashOperands) -> list[tirx.Buffer]:
    """Emit the nests that round keys and values to float16 where they are not already.

    Returns the buffers of both.
    """
    made = []
    for name, positions in (("keys", operands.keys), ("values", operands.values)):
        buffer = positions.stored
        if buffer is None:
            buffer = IRBuilder.name(name, T.sblock_alloc_buffer(positions.shape, "float16"))
            with T.sblock("packed"):
                T.sblock_attr({PATTERN: "packed"})
                _round(positions, buffer, operands.end)
        made.append(buffer)
    return made


def _round(positions: Positions, buffer: tirx.Buffer, count: Expr) -> None:
    """A thread rounds four adjacent elements, of the first `count` positions."""
    heads, d = (int(buffer.shape[n]) for n in (0, 2))
    places = ceil_div(count, LANES) * LANES if positions.panels else count
    quads = int64(places) * (d // QUAD)
    blocks = ceil_div(quads, THREADS)
    with (
        bound(blocks, "blockIdx.x") as block,
        bound(heads, "blockIdx.y") as head,
        bound(THREADS, "threadIdx.x") as thread,
        T.sblock("rounding"),
    ):
        vh = spatial(heads, head)
        i = spatial(blocks, block) * THREADS + spatial(THREADS, thread)
        with T.If(i < quads), T.Then(), T.vectorized(int64(0), int64(QUAD)) as lane:
            place, e, index = _place(positions.panels, d, i, lane)
            value = positions.read(vh, place, e).astype("float32")
            T.buffer_store(buffer, to_half(value), [vh, *index])


def _place(panels: bool, d: int, i: Expr, lane: Expr) -> tuple[Expr, Expr, list[Expr]]:
    """(position, column, index within a head) of an element of quad `i`."""
    if not panels:
        place, e = i // (d // QUAD), i % (d // QUAD) * QUAD + lane
        return place, e, [place, e]
    parts = LANES // QUAD
    panel, e, within = i // (d * parts), i // parts % d, i % parts * QUAD + lane
    return panel * LANES + within, e, [panel, e, within]


@dataclass(frozen=True)
class Grid:
    """The workgroups, and their order."""

    flash: Flash
    order: int
    splits: int
    """Workgroups that share the positions of a tile of rows."""


def write_flash(
    grid: Grid,
    operands: FlashOperands,
    keys: tirx.Buffer,
    values: tirx.Buffer,
    outs: Sequence[tirx.Buffer],
) -> None:
    """Emit the nest.

    `outs` is the result, or the sums and marks of the parts of the positions (attention_merge.py).
    """
    flash, tiles = grid.flash, operands.rows.tiles(grid.flash.rows)
    (warps, lanes), heads = flash.threads, operands.heads
    across, down = (heads, tiles) if grid.order == HEADS_FIRST else (tiles, heads)
    with (
        bound(across, "blockIdx.x") as x,
        bound(down, "blockIdx.y") as y,
        bound(grid.splits, "blockIdx.z") as z,
        bound(warps, "threadIdx.y") as warp,
        bound(lanes, "threadIdx.x") as lane,
        T.sblock("task"),
    ):
        tile, head = (y, x) if grid.order == HEADS_FIRST else (x, y)
        tile, head = spatial(tiles, tile), spatial(heads, head)
        tile = tiles - 1 - tile if grid.order == LAST_FIRST else tile
        part = spatial(grid.splits, z)
        thread = spatial(warps, warp) * lanes + spatial(lanes, lane)
        dtype, unit = ("float32", FLOAT) if flash.cache == FLOATS else ("float16", HALF)
        size = flash.bytes(operands.panels) // unit
        pool = T.sblock_alloc_buffer((size,), dtype, scope=OPERANDS)
        place = flash.queries_at(operands.panels) * HALF // unit
        _load_queries(flash, operands.query, pool, place, tile, head, thread)
        numbers = _numbers(grid, operands, keys, values)
        _call(grid, operands, pool, (keys, values), outs, [tile, head, part, *numbers])


def _load_queries(
    flash: Flash, query: Read, pool: tirx.Buffer, start: int, tile: Expr, head: Expr, thread: Expr
) -> None:
    """Round the queries of the tile into the memory from element `start` on, if it is float16.

    What float16 loses of a band of 8 rows is in the 8 rows after it.
    """
    threads = prod(flash.threads)
    count = flash.rows * flash.d
    kept = T.sblock_alloc_buffer((1,), "float32", scope="local")  # or loads would be repeated
    with T.unroll(int64(0), int64(-(-count // threads))) as k:
        i = k * threads + thread
        row, e = i // flash.d, _opaque(i % flash.d)
        T.buffer_store(kept, query(head, tile * flash.rows + row, e), [0])
        place = start + _query_place(flash, row, e)
        if count % threads == 0:
            _store_query(flash, pool, place, kept[0])
        else:
            with T.If(i < count), T.Then():
                _store_query(flash, pool, place, kept[0])


def _query_place(flash: Flash, row: Expr, e: Expr) -> Expr:
    """Where an element is; float32 in the order of flash_floats.py."""
    if flash.cache == FLOATS:
        n = flash.parts
        return row * flash.line + e // (4 * n) * (4 * n) + e % n * 4 + e // n % 4
    return (row // flash.band * SIDE + row % flash.band) * flash.stride + e


def _opaque(index: Expr) -> Expr:
    """The same number, unknown to TVM's arithmetic.

    It took (i // 48 % 2) * 48 + (i % 48 + 24) % 48, the partner of a rotated element, for
    (i + 24) % 96.
    """
    return tirx.reinterpret("int32", index.astype("uint32")).astype("int64")


def _store_query(flash: Flash, pool: tirx.Buffer, place: Expr, value: Expr) -> None:
    T.buffer_store(pool, value if flash.cache == FLOATS else to_half(value), [place])
    if flash.fine:
        T.buffer_store(pool, lost_by_half(value), [place + flash.band * flash.stride])


def _call(
    grid: Grid,
    operands: FlashOperands,
    pool: tirx.Buffer,
    positions: Sequence[tirx.Buffer],
    outs: Sequence[tirx.Buffer],
    numbers: Sequence[Expr | int],
) -> None:
    """Call the device function in a block that states what it reads and writes."""
    whole = lambda b: b[tuple(slice(0, n) for n in b.shape)]  # noqa: E731
    stored = [*positions, *operands.scales]
    with T.sblock("flash"):
        T.reads(whole(pool), *map(whole, stored))
        T.writes(whole(pool), *map(whole, outs))
        T.evaluate(
            S.cuda.func_call(
                _name(grid, operands),
                pool.access_ptr("rw"),
                *(b.access_ptr("w") for b in (outs[0], outs[-1])),
                *map(_int32, numbers),
                *(b.access_ptr("r") for b in stored),
                source_code=CODE[grid.flash.cache],
            )
        )


def _numbers(
    grid: Grid,
    operands: FlashOperands,
    keys: tirx.Buffer,
    values: tirx.Buffer,
) -> list[Expr | int]:
    """The arguments after those of the workgroup: sizes."""
    rows, stored = operands.rows, keys.shape[1] * (LANES if operands.panels else 1)
    sizes = [operands.heads, grid.splits, rows.queries, rows.limit(int64(0))]
    return [*sizes, stored, values.shape[1]]


def _name(grid: Grid, operands: FlashOperands) -> str:
    """The device function with its parameters."""
    f = grid.flash
    if f.cache == FLOATS:
        numbers = [f.own, -(-f.own // f.bands), f.down, f.across, f.chunk, f.step, f.stages, f.lazy]
    else:
        numbers = [f.down, f.across, f.bands, f.chunk, f.step, f.stages, f.held, f.lazy]
    if f.cache in ("", HALVES):
        numbers = [operands.causal, operands.panels, *numbers, f.fine]
    numbers = [f.d, operands.rows.group, *numbers]
    tile = f"{TILES[f.cache]}<{', '.join(str(int(n)) for n in numbers)}>"
    return f"{NAME}<{tile}, {int(grid.splits > 1)}>"


def _int32(value: Expr | int) -> Expr:
    return tirx.const(value, "int32") if isinstance(value, int) else value.astype("int32")
