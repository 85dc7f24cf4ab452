"""Index arithmetic in int64, the type of Relax's shapes.

Descriptions of tensor intrinsics must use the same type, or they do not match.
"""

from __future__ import annotations

from tvm import te, tirx

from handglass.schedules.loops import int64 as int64


def reduce_axis(extent: int, name: str) -> tirx.IterVar:
    """A reduction axis over 0 to extent - 1."""
    return te.reduce_axis((int64(0), int64(extent)), name)


def static_extents(tensor: te.Tensor, count: int) -> list[tirx.IntImm]:
    """The first `count` extents, which must be constant."""
    return [int64(int(extent)) for extent in tensor.shape[:count]]
