"""Integer sums over a group of 32 inputs, which may start at the bits of a float32.

32 products of a nibble in the upper half of a byte (-128 to 112) and an activation (-127 to 127)
move such a sum by at most 520,192, far less than `FLOAT_START` allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import te, tirx
from tvm.ir import Expr
from tvm.tirx import IterVar

from handglass.schedules.isa.integer_isa import Codes


def group_sum(codes: Codes) -> Callable[[Expr, Sequence[IterVar]], Expr]:
    """The reducer of integer products over axes: their sum plus `codes.start`."""
    if not codes.start:
        return lambda value, axis: te.sum(value, axis=axis)
    return te.comm_reducer(
        lambda a, b: a + b, lambda dtype: tirx.const(codes.start, dtype), name="sum_from_start"
    )
