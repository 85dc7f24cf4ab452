"""Attention on a GPU: the loops that each thread runs inside the nest.

The operator (compiler/ops/gpu_attention.py) writes out the nest with its workgroups, threads and
shared memory, which attention_blocking.py may replace. This rule also chooses how many steps to
unroll: of the scores, which iterate over the elements of a key, and of the product with the values,
which iterates over positions. Each step loads from memory independently of the next one.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm.s_tir import SBlock, Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, blocks, find, pattern_of
from ..tiling import settled
from .attention_blocking import OFFERS as BLOCKING
from .attention_blocking import choose_blocking
from .elementwise import bind_elements, offers
from .grid import extent_of
from .threads import halved

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
    shape = choose_blocking(sch, target, choices)
    for number, packed in enumerate(find(sch, "packed")):
        bind_elements(sch, packed, target, choices, number)
    _scores(sch, choices)
    for name in ("mix", "edge"):
        if _exists(sch, name):
            _mix(sch, name, shape.positions, choices)
    return True


def _scores(sch: Schedule, choices: Choices) -> None:
    """Elements of a key in the outer loop, all rows of the tile in the inner one."""
    block = sch.get_sblock("scores")
    _, e, row = sch.get_loops(block)[-3:]
    steps = _steps(sch, "scores.unroll", extent_of(sch, e) or 1, choices)
    step, unrolled = sch.split(e, [None, steps])
    _load(sch, "load_key", step)
    for loop in (unrolled, row):
        sch.unroll(loop)
    _unroll(sch, sch.decompose_reduction(block, step), 1)


def _mix(sch: Schedule, name: str, positions: int, choices: Choices) -> None:
    """Positions in the outer loop, the rows and columns of the thread in the inner ones."""
    block = sch.get_sblock(name)
    position, row, column = sch.get_loops(block)[-3:]
    steps = _steps(sch, f"{name}.unroll", positions, choices)
    extent = extent_of(sch, position) or 1
    step, unrolled = sch.split(position, [None, halved(steps, lambda n: extent % n == 0)])
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


def _steps(sch: Schedule, name: str, extent: int, choices: Choices) -> int:
    options = [n for n in UNROLL if extent % n == 0]
    return settled(sch, choices.pick(sch, name, options, STEPS_UNROLLED))


def _exists(sch: Schedule, name: str) -> bool:
    """Whether a block of this name exists at any depth."""
    found: list[SBlock] = []
    tvm_ffi.structural_walk(sch.mod["main"].body, (SBlock, found.append))
    return any(block.name_hint == name for block in found)


OFFERS = {
    **BLOCKING,
    **offers(PACKINGS),
    **{f"{name}.unroll": UNROLL for name in ("scores", "mix", "edge")},
}
RULE = Rule("vulkan-attention", attention, frozenset({"attention"}), offers=OFFERS)
