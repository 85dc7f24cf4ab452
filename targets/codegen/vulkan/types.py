"""TIR types and their representation in SPIR-V.

A value is a tuple of parts. Scalars and vectors of 2 to 4 lanes are one part; longer vectors are
parts of 4 lanes with the remainder in the last one, because a SPIR-V vector has at most 4 lanes.
Vectors of bytes with a multiple of 4 lanes are *packed*: a part is a 32-bit word, the first lane in
its low byte. So bytes that are only loaded, passed to a dot product or widened need no 8-bit
arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from .opcodes import Op
from .words import Words

Value = tuple[int, ...]
"""Ids of the parts of a value."""

KINDS = ("bool", "int", "uint", "float")
WIDEST = 4  # lanes of a part


@dataclass(frozen=True)
class Type:
    """A TIR type; `kind` is bool, int, uint or float, or another one that SPIR-V lacks."""

    kind: str
    bits: int
    lanes: int = 1

    def __str__(self) -> str:
        name = "bool" if self.kind == "bool" else f"{self.kind}{self.bits}"
        return name if self.lanes == 1 else f"{name}x{self.lanes}"

    @property
    def bytes(self) -> int:
        """Size in memory; a bool takes a byte."""
        return max(self.bits, 8) // 8 * self.lanes

    @property
    def scalar(self) -> Type:
        return replace(self, lanes=1)

    def of(self, lanes: int) -> Type:
        return replace(self, lanes=lanes)

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def is_packed(self) -> bool:
        return self.is_integer and self.bits == 8 and self.lanes % WIDEST == 0

    @property
    def parts(self) -> tuple[Type, ...]:
        """The types of the parts of a value."""
        if self.is_packed:
            return (UINT32,) * (self.lanes // WIDEST)
        whole, rest = divmod(self.lanes, WIDEST)
        return (self.of(WIDEST),) * whole + ((self.of(rest),) if rest else ())


BOOL = Type("bool", 1)
INT8 = Type("int", 8)
INT32 = Type("int", 32)
UINT32 = Type("uint", 32)
FLOAT32 = Type("float", 32)


@cache
def parse(text: str) -> Type:
    """Parse a TVM dtype: `int32`, `float16x4`, `bool`, ..."""
    name, _, lanes = text.partition("x")
    kind = name.rstrip("0123456789")
    bits = name[len(kind) :]
    return Type(kind, int(bits) if bits else 1, int(lanes) if lanes else 1)


def type_id(words: Words, type: Type) -> int:
    """The SPIR-V type of one part, without checking capabilities."""
    if type.lanes > 1:
        return words.type(Op.TypeVector, type_id(words, type.scalar), type.lanes)
    if type.kind == "bool":
        return words.type(Op.TypeBool)
    if type.kind == "float":
        return words.type(Op.TypeFloat, type.bits)
    return words.type(Op.TypeInt, type.bits, int(type.kind == "int"))


def pointer_id(words: Words, storage: int, pointee: int) -> int:
    return words.type(Op.TypePointer, storage, pointee)
