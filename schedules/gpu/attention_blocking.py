"""The choices of attention on a GPU that change the loop nest itself: the shape of a workgroup and
what it does with a chunk of positions. With the defaults, the operator's nest stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule
from tvm.tirx.script.builder import ir as T

from ..choices import Choices
from ..replace_nest import replace_nests, root_of
from ..rule import PATTERN, SEEN
from ..tiling import settled
from .attention_buffers import Operands
from .attention_found import Found, find_nest, operands_of
from .attention_merge import write_merge
from .attention_nest import write_attention
from .attention_workgroup import LANES_OF_A_ROW, MOST_SPLITS, THREADS, TILES, Bounds, Workgroup
from .limits import supports

UNSTAGED, STORED, FLOATS = 0, 1, 2
"""Values are read where they are, or first copied to shared memory: as stored, or as float32."""
SPLITS = (1, 2, 4, 8, 16)
"""Parts of the positions that a function is offered, beside the operator's own number."""
OFFERS: Mapping[str, tuple[int, ...]] = {
    "tile": tuple(range(1, TILES[0] + 1)),
    "threads": (64, 128, 256, 512, 1024),
    "columns": (1, 2, 4, 8),
    "chunk": (1, 2, 4),
    "lanes": (4, 8, 16),
    "staged": (UNSTAGED, STORED, FLOATS),
    "splits": tuple(range(1, MOST_SPLITS + 1)),
}
"""The choices, with all values that a function may be offered.

No option depends on another choice. A combination that exceeds the target's shared memory becomes
one that does not: smaller chunks first, then no copy of the values, then fewer rows,
then the operator's workgroup.
"""


def choose_blocking(sch: Schedule, target: tvm.target.Target, choices: Choices) -> Workgroup:
    """Replace the nest if its workgroups should have another shape. Returns the operator's shape.

    The views that the nest reads must be inlined.
    """
    found, bounds = find_nest(sch), Bounds.of(target)
    options = _options(found, target, bounds)
    defaults = _defaults(found, options)
    chosen = {
        name: settled(sch, choices.pick(sch, name, offered, defaults[name]))
        if len(offered) > 1
        else defaults[name]
        for name, offered in options.items()
    }
    if chosen != defaults:
        _replace(sch, found, _shape(found, chosen, bounds), chosen["splits"])
    return found.shape


def _options(found: Found, target: tvm.target.Target, bounds: Bounds) -> dict[str, Sequence[int]]:
    tiles = _tiles(found)
    threads, columns = _threads_and_columns(replace(found.shape, tile=tiles[0]), bounds)
    return {
        "tile": tiles,
        "threads": threads,
        "columns": columns,
        "chunk": OFFERS["chunk"],
        "lanes": OFFERS["lanes"],
        "staged": _staged(found, target),
        "splits": _splits(found),
    }


def _defaults(found: Found, options: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The values that leave the operator's nest as it is."""
    return {
        "tile": found.shape.tile,
        "threads": _default_threads(found.shape, options["threads"]),
        "columns": found.shape.wide,
        "chunk": 1,
        "lanes": LANES_OF_A_ROW,
        "staged": UNSTAGED,
        "splits": found.splits,
    }


def _shape(found: Found, chosen: Mapping[str, int], bounds: Bounds) -> Workgroup:
    """The chosen workgroup, or the nearest one that the target's memory holds; the operator's own
    always does."""
    rows = replace(found.shape, most_lanes=chosen["lanes"])
    staged = {UNSTAGED: "", STORED: found.kept, FLOATS: "float32"}[chosen["staged"]]
    chunks = [n for n in reversed(OFFERS["chunk"]) if n <= chosen["chunk"]]
    tiles = [n for n in reversed(_tiles(found)) if n <= chosen["tile"]]
    for tile in tiles:
        for kept in dict.fromkeys((staged, "")):
            for count in chunks:
                sized = replace(rows, tile=tile, staged=kept)
                sized = sized.sized(chosen["threads"], chosen["columns"], count)
                if sized.shared_bytes <= bounds.bytes:
                    return sized
    return rows


# --- what a function is offered ---


def _tiles(found: Found) -> list[int]:
    """Rows of a tile, up to the operator's; if all rows are in one, the parts of the positions have
    its rows."""
    tile = found.shape.tile
    return [tile] if _is_one_tile(found) else sorted({n for n in TILES if n < tile} | {tile})


def _threads_and_columns(shape: Workgroup, bounds: Bounds) -> tuple[list[int], list[int]]:
    """Threads of a workgroup, and columns of a thread: the smallest chunk of a tile must fit into
    memory with each pair.

    At least one thread per column, or all that the target has.
    """
    columns = _columns(shape)
    least = min(shape.d, bounds.threads)
    able = [n for n in OFFERS["threads"] if least <= n <= bounds.threads]
    for count in range(len(columns), 0, -1):
        if fitting := [n for n in able if _fit(shape, n, columns[:count], bounds)]:
            return fitting, columns[:count]
    return [min(THREADS, bounds.threads)], columns[:1]


def _fit(shape: Workgroup, threads: int, columns: Sequence[int], bounds: Bounds) -> bool:
    return all(shape.sized(threads, n, 1).shared_bytes <= bounds.bytes for n in columns)


def _default_threads(shape: Workgroup, offered: Sequence[int]) -> int:
    wanted = max(THREADS, shape.threads)
    return next((n for n in offered if n >= wanted), offered[-1])


def _columns(shape: Workgroup) -> list[int]:
    """Columns of a thread: at least as many as let a workgroup cover a head. Only the operator's
    own number if it is none of those that are offered."""
    wide = shape.wide
    if wide not in OFFERS["columns"]:
        return [wide]
    return [n for n in OFFERS["columns"] if n >= wide and shape.d % n == 0]


def _staged(found: Found, target: tvm.target.Target) -> list[int]:
    """float32 has no second type. float16 and bytes in shared memory need their arithmetic."""
    if found.kept == "float32":
        return [UNSTAGED, STORED]
    able = supports(target, found.kept)
    return [UNSTAGED, STORED, FLOATS] if able else [UNSTAGED, FLOATS]


def _splits(found: Found) -> list[int]:
    """Parts of the positions: only if all rows are in one tile, as for a single query."""
    positions = found.nest.annotations[SEEN][1]
    if found.splits == 1 and not _is_one_tile(found):
        return [1]
    chunks = MOST_SPLITS
    if isinstance(positions, tirx.IntImm | int):
        chunks = -(-int(positions) // found.shape.chunk)
    return sorted({n for n in SPLITS if n <= chunks} | {found.splits})


def _is_one_tile(found: Found) -> bool:
    rows = found.out.shape[0]
    group = int(found.out.shape[1]) // (found.heads * found.shape.d)
    return isinstance(rows, tirx.IntImm) and int(rows) * group <= found.shape.tile


# --- the replacement ---


def _replace(sch: Schedule, found: Found, shape: Workgroup, splits: int) -> None:
    """Put a nest of this shape in place of the operator's."""
    operands = operands_of(sch, found)
    partial = (splits, found.heads, shape.tile)
    notes = dict(found.nest.annotations)

    def emit() -> None:
        outs: tuple[tirx.Buffer, ...] = (found.out,)
        if splits > 1:
            sizes = (*partial, shape.d), (*partial, 2)
            outs = tuple(T.sblock_alloc_buffer(size, "float32") for size in sizes)
        with T.sblock("attention"):
            T.sblock_attr(notes)
            write_attention(shape, splits, replace(operands, outs=outs))
        if splits > 1:
            with T.sblock("merge"):
                T.sblock_attr({PATTERN: "merge"})
                write_merge(operands.rows, outs, found.out)

    built = root_of([*_read(operands), found.out], emit)
    gone = [found.nest, *([found.merge] if found.merge else [])]
    replace_nests(sch, gone, found.partial, built)


def _read(operands: Operands) -> list[tirx.Buffer]:
    """The buffers that the operands come from."""
    zero = [tirx.IntImm("int64", 0)] * 3
    read: list[tirx.Buffer] = [operands.keys, *operands.scales]

    def note(load: TensorLoad) -> None:
        read.append(load.source)

    for value in (operands.query(*zero), operands.value(*zero)):
        tvm_ffi.structural_walk(value, (TensorLoad, note))
    return read
