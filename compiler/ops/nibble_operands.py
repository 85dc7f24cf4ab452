"""The nibbles of packed weights as bytes, in the order in which an instruction reads them.

A stage of its own: the schedule decides whether weights are unpacked once for all rows of a task,
or again for each of its register tiles.
"""

from __future__ import annotations

from tvm import te

from handglass.schedules.isa.integer_isa import CHUNK_STEPS, STEP, Codes
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.rule import PATTERN

from .index_type import int64

_OPERANDS = {PATTERN: "operands"}


def dot_operands(codes: Codes, weight: te.Tensor) -> te.Tensor:
    """(panels, groups, 4, 16, 4) -> (panels, groups, 2, 4, 16, 4) bytes.

    The third axis is the half of the group, so [h, v, j, e] is input 16 h + 4 v + e of output j.
    """
    panels, groups = (int64(int(n)) for n in weight.shape[:2])
    shape = (panels, groups, int64(2), int64(CHUNK_STEPS), int64(LANES), int64(STEP))
    value = lambda p, g, h, v, j, e: codes.nibble(weight[p, g, v, j, e], h)  # noqa: E731
    return te.compute(shape, value, name="operands", attrs=_OPERANDS)


def pair_operands(codes: Codes, weight: te.Tensor) -> te.Tensor:
    """(panels, groups, 4, 16, 4) -> (panels, groups, 2, 2, 16, 2, 4) int8.

    [h, v, j, u, e] is input 16 h + 8 v + 4 u + e of output j: 16 bytes are eight inputs of two
    outputs.
    """
    panels, groups = (int64(int(n)) for n in weight.shape[:2])
    shape = (panels, groups, *map(int64, (2, 2, LANES, 2, STEP)))
    value = lambda p, g, h, v, j, u, e: codes.nibble(weight[p, g, v * 2 + u, j, e], h)  # noqa: E731
    return te.compute(shape, value, name="operands", attrs=_OPERANDS)
