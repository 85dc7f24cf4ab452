"""Attention on a GPU: the loops that each thread runs inside the nest.

The operator (compiler/ops/gpu_attention.py) writes out the nest with its workgroups, threads and
shared memory. This rule chooses how many steps to unroll: of the scores, which iterate over the
elements of a key, and of the product with the values, which iterates over positions. Each step
loads from memory independently of the next one.
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
"""Most packing stages before the nest: keys and values in the layout that it reads."""


def attention(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Inline views into packing stages, bind these to threads, and schedule the nest.

    Returns False if the function has no attention block.
    """
    if not find(sch, "attention"):
        return False
    for view in blocks(sch):  # split qkv into heads
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
    """Elements of a key in the outer loop, all rows of the tile in the inner one."""
    block = sch.get_sblock("scores")
    _, e, row = sch.get_loops(block)[-3:]
    step, unrolled = sch.split(e, [None, _steps(sch, "scores.unroll", e, choices)])
    _load(sch, "load_key", step)
    for loop in (unrolled, row):
        sch.unroll(loop)
    _unroll(sch, sch.decompose_reduction(block, step), 1)


def _mix(sch: Schedule, name: str, choices: Choices) -> None:
    """Positions in the outer loop, the rows and columns of the thread in the inner ones."""
    block = sch.get_sblock(name)
    position, row, column = sch.get_loops(block)[-3:]
    step, unrolled = sch.split(position, [None, _steps(sch, f"{name}.unroll", position, choices)])
    _load(sch, f"load_{name}", step)
    for loop in (unrolled, row, column):
        sch.unroll(loop)
    _unroll(sch, sch.decompose_reduction(block, step), 2)


def _load(sch: Schedule, name: str, step) -> None:
    """Load everything that the unrolled steps need into registers at once."""
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
    """Whether a block of this name exists at any depth."""
    found: list[SBlock] = []
    tvm_ffi.structural_walk(sch.mod["main"].body, (SBlock, found.append))
    return any(block.name_hint == name for block in found)


OFFERS = {f"threads.{number}": THREADS for number in range(PACKINGS)} | {
    f"{name}.unroll": UNROLL for name in ("scores", "mix", "edge")
}
RULE = Rule("vulkan-attention", attention, frozenset({"attention"}), offers=OFFERS)
