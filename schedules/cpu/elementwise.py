"""The fallback: functions without a pattern (rotations, gathers, copies, activations).

The outermost spatial loop runs in parallel, the last one is vectorised if a vector size divides it,
and reductions are innermost. Small bodies stay serial: a parallel region costs about a microsecond.
"""

from collections.abc import Mapping, Sequence

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, blocks, pattern_of
from ..tiling import is_one, settled
from .tasks import in_tasks

SERIAL_BELOW = 16384
"""Below this number of elements, one core is faster than waking the others."""
PER_TASK = (0, 1, 2, 4, 8, 16, 32)
"""Offered iterations of the outermost loop per parallel task; 0: serial.

The loop of a single row has one iteration; from 2 on, the numbers are vectors of the row.
"""


def elementwise(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule any function; a block that cannot be vectorised stays scalar loops."""
    found = [block for block in enumerate(blocks(sch)) if _is_plain(sch, block[1])]
    columns = [sch.get_loops(block)[-1] for _, block in found if _has_vectors(sch, block)]
    widths = widths_of(sch, columns)
    widest = WIDEST
    if len(widths) > 1:
        widest = settled(sch, choices.pick(sch, "vector", widths, WIDEST))
    for number, block in found:
        _schedule(sch, block, f"parallel.{number}", widest, choices)
    return True


def _is_plain(sch: Schedule, block) -> bool:
    """Whether the block has a loop for each of its axes."""
    loops = sch.get_loops(block)
    return bool(loops) and len(loops) == len(sch.get(block).iter_vars)


def _has_vectors(sch: Schedule, block) -> bool:
    spatial = [v.iter_type == tirx.IterVar.DataPar for v in sch.get(block).iter_vars]
    return all(spatial) and pattern_of(sch, block) != "scatter" and not has_bool(sch, block)


def has_bool(sch: Schedule, block) -> bool:
    """Whether a block reads or writes truth values, of which there are no vectors."""
    regions = (*sch.get(block).reads, *sch.get(block).writes)
    return any(str(region.source.dtype) == "bool" for region in regions)


def _schedule(sch: Schedule, block, name: str, widest: int, choices: Choices) -> None:
    loops = sch.get_loops(block)
    task, size = loops[0], 0
    if sch.get(block).iter_vars[0].iter_type == tirx.IterVar.DataPar and len(loops) > 1:
        many = int(elements(sch, loops) >= SERIAL_BELOW)
        size = settled(sch, choices.pick(sch, name, _per_task(sch, block), many))
    if size > 1 and is_one(sch.get(task).extent):
        task, lane = sch.split(loops[-1], [None, lanes_of(sch, loops[-1], widest)])
        sch.vectorize(lane)
    elif _has_vectors(sch, block):
        vectorize(sch, loops[-1], widest)
    if size:
        sch.parallel(task)
        in_tasks(sch, task, size)


def _per_task(sch: Schedule, block) -> list[int]:
    """The values of PER_TASK that leave several tasks, and 0 and 1."""
    first, *_, last = sch.get_loops(block)
    extent, most = sch.get(first).extent, max(PER_TASK) + 1
    if isinstance(extent, tirx.IntImm):
        most = int(extent)
    if is_one(extent):  # with other loops in between, each of their iterations would start tasks
        plain = len(sch.get_loops(block)) == 2 and _has_vectors(sch, block)
        is_split = plain and lanes_of(sch, last, WIDEST) > 0
        most = int(sch.get(last).extent) // max(VECTORS) if is_split else 0
    return [n for n in PER_TASK if n < 2 or n < most]


VECTORS, WIDEST = (4, 8, 16, 32, 64), 16
"""Offered numbers of lanes, and the default; several vectors if more than the machine has."""


def vectorize(sch: Schedule, loop, widest: int = WIDEST) -> None:
    """Vectorise `loop` with the most of VECTORS, up to `widest`, that divide it."""
    if lanes := lanes_of(sch, loop, widest):
        sch.vectorize(sch.split(loop, [None, lanes])[1])


def lanes_of(sch: Schedule, loop, widest: int) -> int:
    """The lanes of a loop whose vectors are at most `widest`; 0 if it is not vectorised."""
    extent = sch.get(loop).extent
    known = isinstance(extent, tirx.IntImm)
    return max((n for n in VECTORS if n <= widest and known and int(extent) % n == 0), default=0)


def widths_of(sch: Schedule, loops: Sequence) -> list[int]:
    """The values of VECTORS that differ for at least one of the loops."""
    lanes = {n: [lanes_of(sch, loop, n) for loop in loops] for n in VECTORS}
    return [n for n in VECTORS if n == VECTORS[0] or lanes[n] != lanes[n // 2]]


def elements(sch: Schedule, loops) -> int:
    """Number of elements, with 64 for each dynamic extent."""
    total = 1
    for loop in loops:
        extent = sch.get(loop).extent
        total *= int(extent) if isinstance(extent, tirx.IntImm) else 64
    return total


MOST_BLOCKS = 16
"""Most blocks per function for which a record may name a choice."""
OFFERS: Mapping[str, Sequence[int]] = {
    "vector": VECTORS,
    **{f"parallel.{number}": PER_TASK for number in range(MOST_BLOCKS)},
}
RULE = Rule("cpu-elementwise", elementwise, offers=OFFERS)
