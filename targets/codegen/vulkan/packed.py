"""Conversion of packed bytes, four per 32-bit word, to 32-bit lanes and back.

Sums and products of packed bytes are computed in 32 bits and truncated, so they need no 8-bit
arithmetic.
"""

from __future__ import annotations

from .kernel import Kernel
from .opcodes import Op
from .types import UINT32, WIDEST, Type, Value


def wide(type: Type) -> Type:
    """The 32-bit type for arithmetic on packed bytes."""
    return Type(type.kind, 32, type.lanes)


def unpack(k: Kernel, type: Type, value: Value) -> Value:
    """Packed bytes -> 32-bit lanes of the same signedness."""
    lane_type = wide(type).scalar
    signed = type.kind == "int"
    op = Op.BitFieldSExtract if signed else Op.BitFieldUExtract
    lanes = []
    for word in value:
        if signed:
            word = k.body.pure(Op.Bitcast, k.id_of(lane_type), word)
        for lane in range(WIDEST):
            where = (k.uint(8 * lane), k.uint(8))
            lanes.append(k.body.pure(op, k.id_of(lane_type), word, *where))
    return k.vector(wide(type), lanes)


def pack(k: Kernel, type: Type, value: Value) -> Value:
    """32-bit lanes -> packed bytes; the upper bits of a lane are dropped."""
    word = k.id_of(UINT32)
    lanes = k.lanes(wide(type), value)
    if type.kind == "int":
        lanes = [k.body.pure(Op.Bitcast, word, lane) for lane in lanes]
    parts = []
    for first in range(0, len(lanes), WIDEST):
        result = k.body.pure(Op.BitwiseAnd, word, lanes[first], k.uint(0xFF))
        for i in range(1, WIDEST):
            where = (k.uint(8 * i), k.uint(8))
            result = k.body.pure(Op.BitFieldInsert, word, result, lanes[first + i], *where)
        parts.append(result)
    return tuple(parts)
