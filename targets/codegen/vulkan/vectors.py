"""Expressions that build vectors from scalars and extract lanes of vectors."""

from __future__ import annotations

from tvm.ir import prim

from .kernel import Emit, Kernel
from .opcodes import Op
from .packed import pack, unpack, wide
from .types import UINT32, Type, Value


def lanes_of(k: Kernel, type: Type, value: Value) -> list[int]:
    """The lanes of a value; packed bytes are unpacked to 32-bit numbers."""
    return k.lanes(wide(type), unpack(k, type, value)) if type.is_packed else k.lanes(type, value)


def broadcast(k: Kernel, e: prim.Broadcast) -> Value:
    """A scalar in every lane."""
    type, source = k.type_of(e), k.type_of(e.value)
    if isinstance(e.value, (prim.IntImm, prim.FloatImm)):
        return k.same(type, e.value.value)
    (lane,) = k.expr(e.value)
    if type.is_packed:
        return _broadcast_byte(k, type, lane)
    if source.lanes > 1:
        k.fail(f"broadcast of a vector: {e}")
    return k.spread(type, lane)


def _broadcast_byte(k: Kernel, type: Type, byte: int) -> Value:
    """Broadcast a byte to packed lanes: multiply by 0x01010101."""
    word = k.body.pure(Op.UConvert, k.id_of(UINT32), byte)
    spread = k.body.pure(Op.IMul, k.id_of(UINT32), word, k.uint(0x01010101))
    return (spread,) * len(type.parts)


def ramp(k: Kernel, e: prim.Ramp) -> Value:
    """base, base + stride, base + 2 stride, ..."""
    type = k.type_of(e)
    (base,), (stride,) = k.expr(e.base), k.expr(e.stride)
    k.claims.compute(type)
    lanes = [base]
    for _ in range(1, type.lanes):
        lanes.append(k.body.pure(Op.IAdd, k.id_of(type.scalar), lanes[-1], stride))
    return k.vector(type, lanes)


def shuffle(k: Kernel, e: prim.Shuffle) -> Value:
    """Lanes of several vectors, selected by constant indices."""
    every: list[int] = []
    for vector in e.vectors:
        every += lanes_of(k, k.type_of(vector), k.expr(vector))
    chosen = []
    for index in e.indices:
        if not isinstance(index, prim.IntImm):
            k.fail(f"a lane is selected by an index that is not constant: {e}")
        chosen.append(every[int(index)])
    return _of_lanes(k, k.type_of(e), k.type_of(e.vectors[0]), chosen)


def _of_lanes(k: Kernel, type: Type, source: Type, lanes: list[int]) -> Value:
    """Build a value from lanes that `lanes_of` returned for type `source`."""
    if type.is_packed and source.is_packed:
        return pack(k, type, k.vector(wide(type), lanes))
    if type.is_packed or source.is_packed:
        return _mixed(k, type, source, lanes)
    return k.vector(type, lanes)


def _mixed(k: Kernel, type: Type, source: Type, lanes: list[int]) -> Value:
    """Convert between packed and single bytes."""
    into = wide(type).scalar if type.is_packed else type.scalar
    k.claims.compute(type.scalar)
    op = Op.SConvert if type.kind == "int" else Op.UConvert
    lanes = [k.body.pure(op, k.id_of(into), lane) for lane in lanes]
    return pack(k, type, k.vector(wide(type), lanes)) if type.is_packed else k.vector(type, lanes)


EXPRESSIONS: dict[type, Emit] = {
    prim.Broadcast: broadcast,
    prim.Ramp: ramp,
    prim.Shuffle: shuffle,
}
