"""Attention with the softmax in registers, on tensor cores: vision, resampler, prefill, decode.

After Dao 2023 (FlashAttention-2, https://arxiv.org/abs/2307.08691): a warp owns bands of 16 rows
and goes through the keys once; scores never leave its registers. The rule replaces the nest of all
GPUs (schedules/gpu/attention_nest.py) where its operands may be rounded to float16. Keys and values
of other types are rounded by a kernel before, once for all rows; those of a float16 cache are read
as they are.

One query reads the cache as it is, whatever its type, and loses nothing. Over float16 and int8,
queries and weights are sums of two float16 (`fine`), which takes no more products, because the
heads that share keys are 8 rows or fewer in most models. Over float32 there are no products of
matrices, but `fma` (flash_floats.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from ..choices import DEFAULTS, Choices
from ..gpu.attention_found import Found, find_nest
from ..gpu.attention_merge import write_merge
from ..gpu.attention_workgroup import MOST_SPLITS, WORKGROUPS
from ..gpu.limits import GpuLimits, gpu_limits
from ..gpu.threads import pick
from ..replace_nest import replace_nests, root_of
from ..rule import PATTERN, ROUNDED, Rule, blocks, find, pattern_of
from .flash_nest import (
    HEADS_FIRST,
    LAST_FIRST,
    TILES_FIRST,
    Grid,
    write_flash,
    write_rounding,
)
from .flash_operands import FlashOperands, find_operands
from .flash_shape import BAND, CODES, FLOATS, HALVES, MOST_WARPS, UNIT, Flash
from .fragments import SIDE

OF_PICTURES = (1, 2, 4, 8)
"""Parts of the positions, where many queries share them."""
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64)
"""The same for one query."""
OFFERS: Mapping[str, Sequence[int]] = {
    "down": (1, 2, 4, 8),
    "across": (1, 2, 4),
    "bands": (1, 2),
    "chunk": (32, 64, 128),
    "step": (16, 32, 64),
    "stages": (1, 2, 3),
    "held": (0, 1),
    "lazy": (0, 1),
    "order": (TILES_FIRST, HEADS_FIRST, LAST_FIRST),
    "splits": SPLITS,
}
"""The choices; see `Flash` and `Grid`."""
USUAL = {"down": 4, "across": 1, "bands": 1, "chunk": 64, "step": 64, "stages": 2, "lazy": 0}
"""Defaults: 64 rows in four warps."""
CACHES = (HALVES, CODES, FLOATS)
"""Types of caches that one query reads as they are."""
MOST_HELD, LARGEST = 128, 256
"""Largest heads whose queries, and whose sums of a band, registers hold."""


def flash_attention(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule attention whose operands may be rounded, with the packing before it; or one query
    over a cache.

    Returns False for anything else, and on chips whose warps multiply no matrices.
    """
    limits, found = gpu_limits(target), find(sch, "attention")
    if not found or not limits.products:
        return False
    fine = ROUNDED not in sch.get(found[0]).annotations
    for view in blocks(sch):  # split qkv into heads
        if not pattern_of(sch, view):
            sch.compute_inline(view)
    nest = find_nest(sch)
    d = nest.shape.d
    if d % UNIT or d > LARGEST:
        return False
    operands = find_operands(sch, nest, CACHES if fine else CACHES[:1])
    is_one_query = _static_rows(nest) is not None and not operands.causal
    if fine and not (is_one_query and operands.cache):
        return False
    cache = operands.cache if fine else ""
    chosen = _pick(sch, nest, operands, limits, choices, cache)
    flash = shape_of(d, chosen, cache, operands.rows.group)
    flash = flash.fitted(limits.optin, operands.panels)
    _replace(sch, nest, operands, Grid(flash, chosen["order"], chosen["splits"]))
    return True


# --- choices ---


def _pick(
    sch: Schedule,
    nest: Found,
    operands: FlashOperands,
    limits: GpuLimits,
    choices: Choices,
    cache: str,
) -> dict[str, int]:
    rows, band = _static_rows(nest), BAND if cache else SIDE
    offered = dict(OFFERS)
    if cache == FLOATS:
        offered |= {"step": (16, 32), "held": (0,)}  # queries are in shared memory
    if rows is not None:
        most = rows if cache == FLOATS else max(1, (2 * rows - 1) // band)
        offered["down"] = [n for n in OFFERS["down"] if n <= most]
    offered["order"] = OFFERS["order"][: 3 if operands.causal else 2]
    offered["splits"] = [1] if rows is None else SPLITS if cache else OF_PICTURES
    defaults = _defaults(operands, nest.shape.d, rows, limits, cache)
    return {
        name: pick(sch, choices, name, options, defaults[name]) if len(options) > 1 else options[0]
        for name, options in offered.items()
    }


def _defaults(
    operands: FlashOperands, d: int, rows: int | None, limits: GpuLimits, cache: str
) -> dict[str, int]:
    """Copies that overlap the products, if the chip has them, and memory for two workgroups on a
    multiprocessor. With few rows, the warps of a workgroup share the positions; with one query,
    so do so many workgroups that a large GPU is busy."""
    order = LAST_FIRST if operands.causal else TILES_FIRST
    stages = USUAL["stages"] if limits.tensor else 1
    chosen = {**USUAL, "held": int(d <= MOST_HELD), "order": order, "stages": stages, "splits": 1}
    if cache:
        chosen |= _of_one_query(operands, d, limits, cache)
    elif rows is not None:
        able = [n for n in (2, 4) if -(-rows // (SIDE * n)) * operands.heads >= WORKGROUPS]
        down = max(able, default=1)
        chosen |= {"down": down, "across": USUAL["down"] // down}
    if 2 * shape_of(d, chosen, cache, operands.rows.group).bytes(operands.panels) > limits.optin:
        chosen["chunk"] //= 2
    return chosen


def _of_one_query(operands: FlashOperands, d: int, limits: GpuLimits, cache: str) -> dict[str, int]:
    """A workgroup has all heads that share keys, if they fit. A chunk of codes has twice as many
    positions, hence as many bytes; of float32 so few that only two warps share them."""
    group = operands.rows.group
    splits = min(MOST_SPLITS, -(-WORKGROUPS // operands.heads))
    down = next((n for n in OFFERS["down"] if BAND * n >= group), MOST_WARPS)
    chosen = {"down": down, "across": max(1, USUAL["down"] // down), "splits": splits}
    if cache == FLOATS:
        down = max(down, 2 if d > MOST_HELD and group > 1 else 1)
        return chosen | {"down": down, "across": 2, "bands": 2 if group > 4 else 1, "lazy": 1}
    # Without, NVRTC of CUDA 13 spills two registers of sm_75.
    chosen["lazy"] = int(not limits.tensor)
    return chosen | ({"chunk": 2 * USUAL["chunk"]} if cache == CODES else {})


def _static_rows(nest: Found) -> int | None:
    """Rows of a kv head, if the number of queries is constant."""
    queries = nest.out.shape[0]
    return int(queries) * _group(nest) if isinstance(queries, tirx.IntImm) else None


def _group(nest: Found) -> int:
    """Heads that share a kv head."""
    return int(nest.out.shape[1]) // (nest.heads * nest.shape.d)


def shape_of(d: int, chosen: Mapping[str, int], cache: str = "", group: int = 0) -> Flash:
    """The workgroup for heads of `d` columns, `group` of which share keys, whatever a chip has."""
    down, across, bands = chosen["down"], chosen["across"], chosen["bands"]
    chunk, step, stages = chosen["chunk"], chosen["step"], chosen["stages"]
    held, lazy = bool(chosen["held"]), bool(chosen["lazy"])
    return Flash(d, down, across, bands, chunk, step, stages, held, lazy, cache, group)


# --- the replacement ---


def _replace(sch: Schedule, nest: Found, operands: FlashOperands, grid: Grid) -> None:
    notes, d = dict(nest.nest.annotations), grid.flash.d
    unused = [*nest.partial, *operands.packed_buffers]

    def emit() -> None:
        keys, values = write_rounding(operands)
        outs = [nest.out]
        if grid.splits > 1:
            size = (grid.splits, nest.heads, _static_rows(nest))
            outs = [
                IRBuilder.name(name, T.sblock_alloc_buffer((*size, n), "float32"))
                for name, n in (("sums", d), ("marks", 2))
            ]
        with T.sblock("attention"):
            T.sblock_attr(notes)
            write_flash(grid, operands, keys, values, outs)
        if grid.splits > 1:
            with T.sblock("merge"):
                T.sblock_attr({PATTERN: "merge"})
                write_merge(operands.rows, outs, nest.out)

    built = root_of([*operands.read, nest.out], emit)
    gone = [nest.nest, *operands.packed, *([nest.merge] if nest.merge else [])]
    replace_nests(sch, gone, unused, built)


RULE = Rule("cuda-flash-attention", flash_attention, frozenset({"attention"}), offers=OFFERS)
