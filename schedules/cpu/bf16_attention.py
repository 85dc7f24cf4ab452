"""Attention in bfloat16, in tile registers (AMX) or by dot products of pairs: the
rule, and the choices that change its nest.

compiler/ops/bf16_attention.py emits three nests: rows as tiles, keys and values as tiles, and the
attention itself (bf16_attention_nest.py). Their tasks run in parallel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.tirx.script.builder import ir as T

from ..choices import DEFAULTS, Choices
from ..isa.bf16_dot import Bf16Dot, find_bf16_dot
from ..isa.register_tiles import ZMM_FLOATS
from ..loops import int64
from ..replace_nest import in_scope, replace_nests, root_of
from ..rule import Rule, find
from ..select import BF16_DOT, find_units
from ..tiling import settled
from .attention_shape import Tiling, tiles_of_task
from .bf16_attention_dots import DotBlock
from .bf16_attention_nest import attention_nest
from .bf16_attention_shape import ROWS, TILED, TileBlocking, TileOperands, TileShape
from .bf16_attention_tiles import TileBlock

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
    "dot_sums": (2, 4, 8, 16),
    "dot_vectors": (1, 2),
    "dot_pairs": (1, 2, 4),
}
"""The choices, as in `TileBlocking`."""
OF_TILES = frozenset({"row_tiles", "fused", "streamed"})
OF_DOTS = frozenset({"dot_sums", "dot_vectors", "dot_pairs"})
"""Choices that only tile registers have, and only dot products."""


def tile_attention(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule attention in bfloat16. Returns False if the function has no such block."""
    units = find_units(target)
    dot = find_bf16_dot(target) if BF16_DOT in units.kinds else None
    return schedule_tile_attention(sch, units.floats is ZMM_FLOATS, choices, dot)


def schedule_tile_attention(
    sch: Schedule, avx512: bool, choices: Choices = DEFAULTS, dot: Bf16Dot | None = None
) -> bool:
    """Like `tile_attention`, for a CPU with or without AVX-512 beside its tiles; `dot` for one
    without tiles, by its dot products."""
    found = find(sch, PATTERN_OF_NEST)
    if not found:
        return False
    default = TileBlocking(exponential=int(avx512))
    if dot:
        default = replace(default, dot=dot, dot_sums=dot.sums[-1], dot_vectors=dot.vectors)
    before, after = TileBlocking(), _choose(sch, found[0], default, choices)
    if after != before:
        _replace(sch, found[0], after)
    for name in TASKS:
        sch.parallel(sch.get_loops(sch.get_sblock(name))[0])
    return True


def _choose(sch: Schedule, block, default: TileBlocking, choices: Choices) -> TileBlocking:
    picked: dict[str, Any] = {
        name: settled(sch, choices.pick(sch, name, options, getattr(default, name)))
        for name, options in _offered(_shape(sch, block, default)).items()
    }
    return replace(default, **picked)


def _offered(shape: TileShape) -> dict[str, tuple[int, ...]]:
    """Without AVX-512, no `exponential`; a task has no more blocks than there are."""
    most = tiles_of_task(shape.tiling, max(OFFERS["blocks"]))
    blocks = tuple(n for n in OFFERS["blocks"] if n <= most)
    dot = shape.blocking.dot
    offered = {**OFFERS, "blocks": blocks, "dot_sums": dot.sums if dot else ()}
    without = OF_TILES if dot else OF_DOTS
    if not shape.blocking.exponential:
        without |= {"exponential"}
    return {name: o for name, o in offered.items() if name not in without}


def _replace(sch: Schedule, block, blocking: TileBlocking) -> None:
    """Put a nest with this blocking in place of that of the block."""
    nest = sch.get(block)
    shape = _shape(sch, block, blocking)
    sources = [*shape.operands.inputs, shape.operands.out]

    def emit() -> None:
        with T.sblock("attention"):
            T.sblock_attr(dict(nest.annotations))
            attention_nest(shape, DotBlock if shape.blocking.dot else TileBlock)

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
