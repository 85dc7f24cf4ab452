"""Integer matmul on a GPU: words of four codes, multiplied four at a time.

One row is a stream over the weights (one_row.py): a thread takes a group of 32 inputs of 4 outputs
at a time, with 128-bit loads only, and reads their scales once. Many rows use tiles in shared
memory as in matmul.py; words are unpacked on the way there, and the sums of a group are integers in
registers.
"""

from __future__ import annotations

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..isa.integer_isa import GROUP, STEP
from ..rule import Rule, blocks, find
from ..tiling import clear, divisors, inline_epilogue, is_one
from . import one_row, tile
from .limits import GpuLimits, gpu_limits
from .one_row import add_up_parts, pick_parts, pick_staged, share_row
from .threads import (
    QUAD,
    WORD,
    depth_of,
    halved,
    keep_apart,
    pick,
    pick_copies,
    share,
    vectorize_quads,
)
from .tile import Workgroup, copy_to_registers, pick_workgroup, split_tile

WEIGHTS, ACTIVATIONS = 0, 1
"""Read indices of the block that computes the sums, in the operator's order."""


def dot(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule one integer matmul with its epilogue."""
    found = [(bits, block) for bits in (4, 7, 8) for block in find(sch, f"dot{bits}")]
    limits = gpu_limits(target)
    if len(found) != 1:
        return False
    bits, sums = found[0]
    product = find(sch, "scaled")[0] if bits == 4 else sums
    last = inline_epilogue(sch, product)
    one_row = is_one(sch.get(sch.get_loops(product)[0]).extent)
    schedule = _one_row if one_row else _many_rows
    schedule(sch, sums, product, last, limits, choices)
    return True


def _one_row(sch: Schedule, sums, product, last, limits: GpuLimits, choices: Choices) -> None:
    for stage in _stages(sch, "words", "row_scales", "scales"):
        sch.compute_inline(stage)
    (row,) = _stages(sch, "rows")
    staged = pick_staged(sch, row, limits, choices)
    _, column, g, *_ = sch.get_loops(product)
    depth = 1
    parts, (outer, step, part) = pick_parts(sch, column, g, limits, choices)
    partial = add_up_parts(sch, product, last, part, parts)
    if sums is product:
        *_, outer, step, half, w, lane = sch.get_loops(partial)
        _straight(sch, partial, step, [half, w, lane], w)
    else:
        *_, outer, step, lane = sch.get_loops(partial)
        depth = vectorize_quads(sch, lane)
        sch.set_scope(sums, 0, "local")
        sch.compute_at(sums, step, preserve_unit_loops=True)
        group, _, lane, half, w = sch.get_loops(sums)[depth_of(sch, step) :]
        sch.reorder(w, half, lane)
        _straight(sch, sums, group, [w, half, lane], w)
        _clear_quads(sch, sums, w)
    sch.unroll(step)
    if sums is product:
        _clear_quads(sch, partial, outer)
    else:
        clear(sch, partial, outer, depth)
    if staged:
        share_row(sch, row, partial, parts)


def _clear_quads(sch: Schedule, block, reduction) -> None:
    """Zero the integer sums of a thread before the loop `reduction`, four at a time."""
    vectorize_quads(sch, sch.get_loops(sch.decompose_reduction(block, reduction))[-1])


def _straight(sch: Schedule, block, group, inner: list, w) -> None:
    """Load a group's activations in two loads and its weights per word; unroll all loops."""
    copy_to_registers(sch, block, ACTIVATIONS, group)
    copy_to_registers(sch, block, WEIGHTS, w)
    for loop in inner:
        sch.unroll(loop)


def _many_rows(sch: Schedule, sums, product, last, limits: GpuLimits, choices: Choices) -> None:
    tile = pick_workgroup(sch, limits, choices)
    g = sch.get_loops(product)[2]
    width = pick_copies(sch, choices)
    together = pick(sch, choices, "groups", divisors(sch, g, GROUPS), 1)
    outer, g = sch.split(g, [None, halved(together, lambda n: _fits(tile, n, limits))])
    if sums is product:
        split_tile(sch, product, last, tile, vector=False)
        *_, quad, w, row, lane = sch.get_loops(product)
    else:
        split_tile(sch, product, last, tile)
        sch.set_scope(sums, 0, "local")
        sch.compute_at(sums, g, preserve_unit_loops=True)
        *_, row, lane, quad, w = sch.get_loops(sums)
        sch.reorder(quad, w, row, lane)
    for stage in _stages(sch, "rows"):
        keep_apart(sch, stage)
    for stage in _stages(sch, "rows", "words", "scales"):
        share(sch, stage, outer, tile.threads, width)
    for stage in _stages(sch, "row_scales"):
        share(sch, stage, outer, tile.threads, 1)
    copy_to_registers(sch, sums, ACTIVATIONS, quad)
    copy_to_registers(sch, sums, WEIGHTS, w)
    for loop in (w, row, lane):
        sch.unroll(loop)
    if sums is not product:
        clear(sch, sums, quad, 2)
    clear(sch, product, outer, 2)


def _fits(tile: Workgroup, groups: int, limits: GpuLimits) -> bool:
    """Whether shared memory holds so many groups of both operands, their scales and row padding."""
    words = GROUP // STEP * groups
    numbers = tile.rows * (words + QUAD + groups) + tile.columns * (words + groups)
    return WORD * numbers <= limits.memory


def _stages(sch: Schedule, *names: str) -> list:
    """The existing blocks with one of these names."""
    return [b for b in blocks(sch) if sch.get(b).name_hint in names]


GROUPS = (1, 2, 4)
"""Offered numbers of groups of 32 inputs between two barriers."""
OFFERS = {**one_row.OFFERS, **tile.OFFERS, "groups": GROUPS}
RULE = Rule("vulkan-dot", dot, frozenset({"dot4", "dot7", "dot8"}), offers=OFFERS)
