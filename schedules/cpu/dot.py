"""Integer matmul on a CPU: register tiles of rows x 16 outputs around one tensor intrinsic.

One row (decode): a stream over the weights, bound by memory bandwidth. Many rows: a task owns a
panel and iterates over the rows in register tiles while the panel stays in the L1 or L2 cache. The
instruction set determines the tile size (isa/integer_isa.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..isa.dot_instructions import instruction
from ..isa.dot_intrinsics import Inner, intrinsic
from ..isa.integer_isa import INTERCHANGEABLE, Codes, IntegerIsa, find_integer_isa
from ..isa.nibble_intrinsics import unpack_vectors
from ..isa.register_tiles import LANES, Tile
from ..rule import Rule, find
from ..tiling import (
    OFFERED_ROWS,
    UNPACKED,
    clear,
    divisors,
    in_row_blocks,
    inline_epilogue,
    is_one,
    settled,
    tensorize,
    vectorize_last,
)
from .elementwise import vectorize
from .tasks import PER_TASK, in_tasks, parallel
from .unpacking import unpack_operands

PANELS, PANELS_OF_ONE_ROW = (1, 2, 4), (1, 2, 4, 8)
"""Offered numbers of adjacent panels that take the same rows, one after the other."""
PARTS, COLUMNS = (1, 2, 3, 4, 6), (4, 8, 16)
"""Offered register tiles per padded row tile, and columns per register tile."""
UNROLLS = (1, 2, 4)
"""Offered unroll factors of the loop over groups or chunks of inputs."""
TOGETHER, TOGETHER_UNROLLED = (0, 4), (1, 2, 4, 8)
"""Offered numbers of rows that take an unrolled step at once; 0: the steps stay a loop."""
PREFETCH = (0, 4, 8, 16, 32, 64)
"""Offered prefetch distances of one row, in steps; 0: left to the hardware."""


def dot(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule one integer matmul with its epilogue."""
    return schedule_dot(sch, find_integer_isa(target), choices)


def schedule_dot(
    sch: Schedule, isa: IntegerIsa, choices: Choices = DEFAULTS, emulate: bool = False
) -> bool:
    """Like `dot`, for a given instruction set; for `emulate` see `intrinsic`."""
    found = [(bits, block) for bits in (4, 7, 8) for block in find(sch, f"dot{bits}")]
    if len(found) != 1:
        return False
    (bits, sums), (scaled,) = found[0], find(sch, "scaled")
    tile = choose_tile(sch, register_tile(sch, scaled, isa.codes(bits)), isa, choices)
    use = choose_instruction(sch, isa, bits, choices)
    inner = choose_inner(sch, isa, bits, tile.rows, choices)
    unpacked = bool(find(sch, "operands"))
    name = intrinsic(use, bits, tile.rows, tile.columns, emulate, inner, unpacked)
    if bits == 4:
        _grouped(sch, sums, scaled, tile, name, isa.int4, choices)
    else:
        _by_row(sch, sums, scaled, tile, name, instruction(isa, bits).steps == 1, choices)
    for padded in find(sch, "rows"):
        sch.parallel(sch.get_loops(padded)[0])
        vectorize(sch, sch.get_loops(padded)[-1])
    return True


def register_tile(sch: Schedule, scaled, codes: Codes) -> Tile:
    """The register tile: whole panels for one row, the instruction set's tile for many."""
    one = is_one(sch.get(sch.get_loops(scaled)[0]).extent)
    return replace(codes.tile, rows=1, columns=LANES) if one else replace(codes.tile, panels=1)


def choose_tile(sch: Schedule, tile: Tile, isa: IntegerIsa, choices: Choices) -> Tile:
    """A register tile that divides the one rows are padded to.

    Rows that are packed tile by tile keep the tile's full height.
    """
    if tile.rows == 1:
        return tile
    fitting = [n for n in PARTS if n < tile.rows and tile.rows % n == 0]  # of at least two rows
    heights = [1] if _packed_by_tiles(sch) else fitting
    parts = choices.pick(sch, "tiles_per_padding", heights, 1)
    widths = [n for n in COLUMNS if isa.lanes <= n]
    columns = choices.pick(sch, "columns", widths, tile.columns)
    return replace(tile, rows=tile.rows // settled(sch, parts), columns=settled(sch, columns))


def choose_instruction(sch: Schedule, isa: IntegerIsa, bits: int, choices: Choices) -> IntegerIsa:
    """The instruction set whose instruction is used, of those that read the same codes."""
    if isa not in INTERCHANGEABLE:
        return isa
    usable = [INTERCHANGEABLE.index(other) for other in isa.interchangeable(bits)]
    if len(usable) == 1:
        return isa
    own = usable[-1]
    return INTERCHANGEABLE[settled(sch, choices.pick(sch, "instruction", usable, own))]


def choose_inner(sch: Schedule, isa: IntegerIsa, bits: int, rows: int, choices: Choices) -> Inner:
    """What is chosen within the intrinsic."""
    default = instruction(isa, bits)
    if rows == 1:
        ahead = choices.pick(sch, "prefetch", PREFETCH, default.prefetch)
        return Inner(prefetch=settled(sch, ahead))
    if default.steps == 1:
        return Inner()
    offered = TOGETHER_UNROLLED if default.unrolls else TOGETHER
    together = choices.pick(sch, "together", offered, default.together)
    return Inner(together=settled(sch, together))


def _packed_by_tiles(sch: Schedule) -> bool:
    """Whether the rows of each register tile are contiguous: (tiles, ..., rows, ...)."""
    return any(len(sch.get(rows).writes[0].region) == 4 for rows in find(sch, "rows"))


def _grouped(
    sch: Schedule, sums, scaled, tile: Tile, name: str, codes: Codes, choices: Choices
) -> None:
    """Compute the integer sums of one group, then add their scaled values to the tile."""
    split = split_tile(sch, scaled, tile, choices)
    g, *_ = unrolled(sch, split.reduction, choices)
    sch.compute_at(sums, split.panel, preserve_unit_loops=True)
    clear(sch, scaled, g, 3)
    *_, i, j, _, _, _ = sch.get_loops(sums)
    first = j if tile.rows == 1 else i
    unpack = partial(unpack_vectors, codes)
    unpack_operands(sch, split.task, split.panel, tile.columns, unpack, choices)
    clear(sch, sums, first, 2)
    tensorize(sch, sums, first, name)
    split.finish(sch)


def _by_row(
    sch: Schedule, sums, scaled, tile: Tile, name: str, single: bool, choices: Choices
) -> None:
    """Compute the integer sums over the whole input and scale them once at the end."""
    split = split_tile(sch, scaled, tile, choices)
    sch.compute_at(sums, split.part, preserve_unit_loops=True)
    *_, p, i, j, c, v, e = sch.get_loops(sums)
    if single:
        c, *steps = _steps(sch, c, v, choices)
        sch.reorder(c, *steps, p, i, j, e)
    else:
        c, *steps = unrolled(sch, c, choices)
        sch.reorder(c, *steps, p, i, j, v, e)
    sch.unroll(p)
    clear(sch, sums, c, 3)
    tensorize(sch, sums, j if tile.rows == 1 else i, name)
    split.finish(sch)


def unrolled(sch: Schedule, loop, choices: Choices) -> list:
    """Unroll the loop over groups or chunks as chosen: [rest of the loop, unrolled part if any]."""
    factor = settled(sch, choices.pick(sch, "unroll", divisors(sch, loop, UNROLLS), 1))
    if factor == 1:
        return [loop]
    loop, inner = sch.split(loop, [None, factor])
    sch.unroll(inner)
    return [loop, inner]


def _steps(sch: Schedule, chunk, step, choices: Choices) -> list:
    """`unrolled` for the steps of all chunks: TVM cannot split the fused loop again."""
    assert int(sch.get(step).extent) == max(UNROLLS)
    factor = settled(sch, choices.pick(sch, "unroll", UNROLLS, 1))
    if factor == 1:
        return [sch.fuse(chunk, step)]
    *outer, inner = sch.split(step, [None, factor]) if factor < max(UNROLLS) else [step]
    sch.unroll(inner)
    return [chunk, *outer, inner]


@dataclass(frozen=True)
class Split:
    """Loops of the scaled sums."""

    task: object
    per_task: int
    part: object
    """The loop over the register tiles of a panel."""
    panel: object
    reduction: object = None
    """The loop over groups of inputs, if these have scales."""

    def finish(self, sch: Schedule) -> None:
        """The last step of the schedule."""
        in_tasks(sch, self.task, self.per_task)


def split_tile(sch: Schedule, scaled, tile: Tile, choices: Choices) -> Split:
    """Split the scaled sums into tasks, panels and register tiles."""
    last = inline_epilogue(sch, scaled)
    i, p, lane, *reduction = sch.get_loops(scaled)
    options = divisors(sch, p, PANELS_OF_ONE_ROW if tile.rows == 1 else PANELS)
    count = int(sch.get(p).extent)
    task, panel = sch.split(p, [None, choices.pick(sch, "panels", options, tile.panels)])
    part, lane = sch.split(lane, [None, tile.columns])
    many = not is_one(sch.get(i).extent)  # before the split, whose size may be a choice
    rows, row = sch.split(i, [None, tile.rows])
    if many:
        task, rows = in_row_blocks(sch, task, rows, choices)
    sch.reorder(task, rows, part, *reduction, panel, row, lane)
    per_task = parallel(sch, task, choices, count // max(options))
    sch.vectorize(lane)
    sch.unroll(row)
    sch.unroll(panel)
    # For all parts: TVM cannot distinguish them in a ragged last panel.
    sch.reverse_compute_at(last, rows)
    vectorize_last(sch, last)
    return Split(task, per_task, part, panel, *reduction)


OFFERS = {
    "unpacked": UNPACKED,
    "panels": PANELS_OF_ONE_ROW,
    "row_block": OFFERED_ROWS,
    "unroll": UNROLLS,
    "prefetch": PREFETCH,
    "per_task": PER_TASK,
}
TILES = {
    "tiles_per_padding": PARTS,
    "columns": COLUMNS,
    "instruction": tuple(range(len(INTERCHANGEABLE))),
    "together": sorted({*TOGETHER, *TOGETHER_UNROLLED}),
}
RULE = Rule("cpu-dot", dot, frozenset({"dot4", "dot7", "dot8"}), offers={**OFFERS, **TILES})
