"""The fallback: functions without a pattern (rotations, gathers, copies, activations).

The outermost spatial loop runs in parallel, the last one is vectorised if a vector size divides it,
and reductions are innermost. Small bodies stay serial: a parallel region costs about a microsecond.
"""

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, blocks, pattern_of
from ..tiling import settled

SERIAL_BELOW = 16384
"""Below this number of elements, one core is faster than waking the others."""


def elementwise(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule any function; a block that cannot be vectorised stays scalar loops."""
    for number, block in enumerate(blocks(sch)):
        loops = sch.get_loops(block)
        spatial = [v.iter_type == tirx.IterVar.DataPar for v in sch.get(block).iter_vars]
        if not loops or len(spatial) != len(loops):
            continue
        if spatial[0] and len(loops) > 1:
            many = int(_elements(sch, loops) >= SERIAL_BELOW)
            if settled(sch, choices.pick(sch, f"parallel.{number}", (0, 1), many)):
                sch.parallel(loops[0])
        if all(spatial) and pattern_of(sch, block) != "scatter":
            vectorize(sch, loops[-1])
    return True


VECTORS = (4, 8, 16)


def vectorize(sch: Schedule, loop, widest: int = max(VECTORS)) -> None:
    """Vectorise `loop` with the most of 16, 8 and 4 lanes, up to `widest`, that divide it."""
    extent = sch.get(loop).extent
    for lanes in (n for n in reversed(VECTORS) if n <= widest):
        if isinstance(extent, tirx.IntImm) and int(extent) % lanes == 0:
            sch.vectorize(sch.split(loop, [None, lanes])[1])
            return


def _elements(sch: Schedule, loops) -> int:
    """Number of elements, with 64 for each dynamic extent."""
    total = 1
    for loop in loops:
        extent = sch.get(loop).extent
        total *= int(extent) if isinstance(extent, tirx.IntImm) else 64
    return total


MOST_BLOCKS = 16
"""Most blocks per function for which a record may name a choice."""
OFFERS = {f"parallel.{number}": (0, 1) for number in range(MOST_BLOCKS)}
RULE = Rule("cpu-elementwise", elementwise, offers=OFFERS)
