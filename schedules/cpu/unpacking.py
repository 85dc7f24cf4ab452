"""Where the nibbles of an integer matmul's weights are unpacked to bytes.

Once for all rows of a task, into a buffer that stays in the L1 or L2 cache and takes twice the
bytes of the weights; or again in each register tile, in registers.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm.s_tir import Schedule

from ..choices import Choices
from ..isa.register_tiles import LANES
from ..rule import find
from ..tiling import ONCE, UNPACKED, settled


def unpack_operands(
    sch: Schedule, task, tile, columns: int, name: Callable[[int], str], choices: Choices
) -> None:
    """Compute the stage "operands", if there is one, in the loop `task` or in the loop `tile`.

    The loop `tile` is inside the loop over groups and computes `columns` outputs. `name` is that of
    the intrinsic for a number of outputs.
    """
    for operands in find(sch, "operands"):
        once = settled(sch, choices.pick(sch, "unpacked", UNPACKED, ONCE)) == ONCE
        sch.compute_at(operands, task if once else tile, preserve_unit_loops=True)
        axes = len(sch.get(operands).iter_vars)
        half = sch.get_loops(operands)[2 - axes]  # axes: panel, group, half, ...
        sch.tensorize(half, name(LANES if once else columns))
