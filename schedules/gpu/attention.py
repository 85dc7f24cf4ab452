"""Attention on a GPU: how the loops of a thread run inside the nest.

The nest itself is written out in the operator (compiler/ops/gpu_attention.py), with its workgroups,
threads and what they share. What is chosen here is how many steps are unrolled: of the scores, that
walk along a key, and of the product with the values, that walks along positions. Each step is a
load from memory that the next need not wait for.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm.s_tir import SBlock, Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, blocks, find, pattern_of
from .elementwise import bind_elements
from .grid import THREADS, extent_of

UNROLL = (1, 2, 4, 8)
STEPS_UNROLLED = 4
PACKINGS = 2
"""Copies beside the nest: keys and values in the layout that it reads."""


def attention(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Views into the copies that read them, copies onto threads, and the steps of the nest."""
    if not find(sch, "attention"):
        return False
    for view in blocks(sch):  # splitting qkv into heads
        if not pattern_of(sch, view):
            sch.compute_inline(view)
    for number, packed in enumerate(find(sch, "packed")):
        bind_elements(sch, packed, target, choices, f"threads.{number}")
    _scores(sch, choices)
    for name in ("mix", "edge"):
        if _exists(sch, name):
            _mix(sch, name, choices)
    return True


def _scores(sch: Schedule, choices: Choices) -> None:
    """Columns of a key outside, all rows of the tile inside."""
    block = sch.get_sblock("scores")
    _, e, row = sch.get_loops(block)[-3:]
    step, unrolled = sch.split(e, [None, _steps(sch, "scores.unroll", e, choices)])
    _load(sch, "load_key", step)
    for loop in (unrolled, row):
        sch.unroll(loop)
    _unroll(sch, sch.decompose_reduction(block, step), 1)


def _mix(sch: Schedule, name: str, choices: Choices) -> None:
    """Positions outside, rows and columns of the thread inside."""
    block = sch.get_sblock(name)
    position, row, column = sch.get_loops(block)[-3:]
    step, unrolled = sch.split(position, [None, _steps(sch, f"{name}.unroll", position, choices)])
    _load(sch, f"load_{name}", step)
    for loop in (unrolled, row, column):
        sch.unroll(loop)
    _unroll(sch, sch.decompose_reduction(block, step), 2)


def _load(sch: Schedule, name: str, step) -> None:
    """What a few steps need into registers, all at once."""
    block = sch.get_sblock(name)
    sch.compute_at(block, step)
    _unroll(sch, block, 1)


def _unroll(sch: Schedule, block, depth: int) -> None:
    for loop in sch.get_loops(block)[-depth:]:
        sch.unroll(loop)


def _steps(sch: Schedule, name: str, loop, choices: Choices):
    extent = extent_of(sch, loop) or 1
    options = [n for n in UNROLL if extent % n == 0]
    return choices.pick(sch, name, options, STEPS_UNROLLED)


def _exists(sch: Schedule, name: str) -> bool:
    """Whether there is a block of this name, however deep."""
    found: list[SBlock] = []
    tvm_ffi.structural_walk(sch.mod["main"].body, (SBlock, found.append))
    return any(block.name_hint == name for block in found)


OFFERS = {f"threads.{number}": THREADS for number in range(PACKINGS)} | {
    f"{name}.unroll": UNROLL for name in ("scores", "mix", "edge")
}
RULE = Rule("vulkan-attention", attention, frozenset({"attention"}), offers=OFFERS)
