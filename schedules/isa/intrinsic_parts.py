"""What descriptions and implementations of tensor intrinsics are written with."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T


def extents_of(*extents: int) -> list:
    """Extents as int64, as in Relax loops, which a description must match."""
    return [tirx.IntImm("int64", extent) for extent in extents]


def whole(buffer: tirx.Buffer) -> tirx.BufferRegion:
    """The region that covers all of a buffer."""
    return buffer[tuple(slice(0, extent) for extent in buffer.shape)]


def shuffle(vectors: Sequence[Expr], places: Sequence[int]) -> Expr:
    """The lanes `places` of the concatenated vectors."""
    return T.Shuffle(list(vectors), [tirx.const(n, "int32") for n in places])
