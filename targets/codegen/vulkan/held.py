"""Units in which values are read from memory, and conversion of units to the parts of a value.

A unit is one element of the array as declared in SPIR-V. Bytes and 16-bit values are read as 32-bit
words if four or two of them, or a multiple, are contiguous and aligned.
"""

from __future__ import annotations

from collections.abc import Iterator

from .kernel import Kernel
from .opcodes import Op
from .packed import pack, unpack, wide
from .types import BOOL, INT8, UINT32, WIDEST, Type, Value

VECTOR_BYTES = 16  # the widest load or store of a lane on every GPU


def candidates(type: Type) -> Iterator[Type]:
    """Possible units for a value of `type` in buffers, widest first; the last is the scalar."""
    for size in (4, 2, 1):
        words, lanes = UINT32.of(size), 4 * size // type.scalar.bytes
        fits = type.bits == 8 or (type.bits == 16 and lanes == 2 * WIDEST)
        if fits and type.kind != "bool" and type.lanes % lanes == 0:
            yield words
    for lanes in (WIDEST, 2):
        if type.bits != 8 and type.kind != "bool" and type.lanes % lanes == 0:
            yield type.of(lanes)
    yield memory_scalar(type)


def memory_scalar(type: Type) -> Type:
    """The scalar type in memory; a bool is a byte."""
    return INT8 if type.kind == "bool" else type.scalar


def lanes_of(unit: Type, type: Type) -> int:
    """Number of lanes of `type` in a unit."""
    return unit.bytes // type.scalar.bytes


def assemble(k: Kernel, type: Type, unit: Type, units: list[int]) -> Value:
    """Assemble a value of `type` from the units that it was read as."""
    if type.kind == "bool" and unit.kind != "bool":
        lanes = [
            k.body.pure(Op.INotEqual, k.id_of(BOOL), one, k.constant(INT8, 0)) for one in units
        ]
        return k.vector(type, lanes)
    if unit.scalar == UINT32 and type.bits != 32:
        if type.bits != 8:
            return _halves(k, type, units)
        return tuple(word for one in units for word in k.lanes(unit, (one,)))
    if unit.lanes == 1:
        return _from_scalars(k, type, units)
    if unit.lanes == WIDEST or unit.lanes == type.lanes:
        return tuple(units)
    return k.vector(type, [lane for one in units for lane in k.lanes(unit, (one,))])


def take_apart(k: Kernel, type: Type, unit: Type, value: Value) -> list[int]:
    """Split a value into units to store: the inverse of `assemble`."""
    if type.kind == "bool" and unit.kind != "bool":
        one, zero = k.constant(INT8, 1), k.constant(INT8, 0)
        lanes = k.lanes(type, value)
        return [k.body.pure(Op.Select, k.id_of(INT8), lane, one, zero) for lane in lanes]
    if unit.scalar == UINT32 and type.bits != 32:
        words = list(value) if type.bits == 8 else _words(k, value)
        return list(k.vector(UINT32.of(len(words)), words)) if unit.lanes > 1 else words
    if unit.lanes == 1:
        return _to_scalars(k, type, value)
    if unit.lanes == WIDEST or unit.lanes == type.lanes:
        return list(value)
    lanes = k.lanes(type, value)
    pieces = [lanes[i : i + unit.lanes] for i in range(0, len(lanes), unit.lanes)]
    return [k.vector(unit, piece)[0] for piece in pieces]


def _halves(k: Kernel, type: Type, units: list[int]) -> Value:
    """Convert units of four words to eight 16-bit lanes each: two parts."""
    k.claims.compute(type)
    pair, part = k.id_of(UINT32.of(2)), k.id_of(type.of(WIDEST))
    parts = []
    for one in units:
        for first in (0, 2):
            two = k.body.pure(Op.VectorShuffle, pair, one, one, first, first + 1)
            parts.append(k.body.pure(Op.Bitcast, part, two))
    return tuple(parts)


def _words(k: Kernel, value: Value) -> list[int]:
    """Convert parts of four 16-bit lanes to words."""
    pair = UINT32.of(2)
    twos = [k.body.pure(Op.Bitcast, k.id_of(pair), part) for part in value]
    return [word for two in twos for word in k.lanes(pair, (two,))]


def _from_scalars(k: Kernel, type: Type, scalars: list[int]) -> Value:
    if not type.is_packed:
        return k.vector(type, scalars)
    lane = wide(type).scalar
    op = Op.SConvert if type.kind == "int" else Op.UConvert
    lanes = [k.body.pure(op, k.id_of(lane), scalar) for scalar in scalars]
    return pack(k, type, k.vector(wide(type), lanes))


def _to_scalars(k: Kernel, type: Type, value: Value) -> list[int]:
    if not type.is_packed:
        return k.lanes(type, value)
    op = Op.SConvert if type.kind == "int" else Op.UConvert
    lanes = k.lanes(wide(type), unpack(k, type, value))
    return [k.body.pure(op, k.id_of(type.scalar), lane) for lane in lanes]
