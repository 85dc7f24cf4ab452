"""Attention in tile registers (AMX): the rule, and the choices that change its nest.

compiler/ops/amx_attention.py emits three nests: rows as tiles, keys and values as tiles, and the
attention itself (amx_attention_nest.py). Their tasks run in parallel.
"""

from __future__ import annotations

from collections.abc import Mapping

import tvm
from tvm.s_tir import Schedule
from tvm.tirx.script.builder import ir as T

from ..choices import DEFAULTS, Choices
from ..isa.register_tiles import ZMM_FLOATS
from ..loops import int64
from ..replace_nest import in_scope, replace_nests, root_of
from ..rule import Rule, find
from ..select import find_units
from ..tiling import settled
from .amx_attention_nest import tile_attention_nest
from .amx_attention_shape import ROWS, TILED, TileBlocking, TileOperands, TileShape
from .attention_shape import Tiling, tiles_of_task

PATTERN_OF_NEST = "tile-attention"
STAGED = ("tile-queries", "tile-positions")
"""Patterns of the nests that prepare the operands."""
TASKS = ("query_task", "position_task", "task")
OFFERS: Mapping[str, tuple[int, ...]] = {
    "chunk": (4, 8, 16, 32, 64, 128),
    "blocks": (1, 2, 4, 8),
    "row_tiles": (1, 2),
    "fused": (0, 1),
    "slack": (0, 4, 8),
    "streamed": (0, 1),
    "exponential": (0, 1),
}
"""The choices, as in `TileBlocking`."""


def tile_attention(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule attention in tiles. Returns False if the function has no such block."""
    return schedule_tile_attention(sch, find_units(target).floats is ZMM_FLOATS, choices)


def schedule_tile_attention(sch: Schedule, avx512: bool, choices: Choices = DEFAULTS) -> bool:
    """Like `tile_attention`, for a CPU with or without AVX-512 beside its tiles."""
    found = find(sch, PATTERN_OF_NEST)
    if not found:
        return False
    before, after = TileBlocking(), _choose(sch, found[0], avx512, choices)
    if after != before:
        _replace(sch, found[0], after)
    for name in TASKS:
        sch.parallel(sch.get_loops(sch.get_sblock(name))[0])
    return True


def _choose(sch: Schedule, block, avx512: bool, choices: Choices) -> TileBlocking:
    default = TileBlocking(exponential=int(avx512))
    picked = {
        name: settled(sch, choices.pick(sch, name, options, getattr(default, name)))
        for name, options in _offered(_shape(sch, block, default), avx512).items()
    }
    return TileBlocking(**picked)


def _offered(shape: TileShape, avx512: bool) -> dict[str, tuple[int, ...]]:
    """Without AVX-512, no `exponential`; a task has no more blocks than there are."""
    most = tiles_of_task(shape.tiling, max(OFFERS["blocks"]))
    blocks = tuple(n for n in OFFERS["blocks"] if n <= most)
    offered = {**OFFERS, "blocks": blocks}
    return offered if avx512 else {n: o for n, o in offered.items() if n != "exponential"}


def _replace(sch: Schedule, block, blocking: TileBlocking) -> None:
    """Put a nest with this blocking in place of that of the block."""
    nest = sch.get(block)
    shape = _shape(sch, block, blocking)
    sources = [*shape.operands.inputs, shape.operands.out]

    def emit() -> None:
        with T.sblock("attention"):
            T.sblock_attr(dict(nest.annotations))
            tile_attention_nest(shape)

    replace_nests(sch, [nest], [], root_of(sources, emit))


def _shape(sch: Schedule, block, blocking: TileBlocking) -> TileShape:
    task, notes = sch.get(sch.get_sblock("task")), sch.get(block).annotations
    rows, keys, values = (region.source for region in task.reads)
    (out,) = (region.source for region in task.writes)
    d, first, step = notes[TILED]
    group = int(out.shape[1]) // (int(rows.shape[0]) * int(d))
    limit = lambda i: in_scope(sch, first) + in_scope(sch, step) * i  # noqa: E731
    tiling = Tiling(int64(out.shape[0]), group, ROWS, limit)
    return TileShape(tiling, int(d), blocking, TileOperands(rows, keys, values, out))


RULE = Rule(
    "cpu-tile-attention",
    tile_attention,
    frozenset({PATTERN_OF_NEST, *STAGED}),
    offers=OFFERS,
)
