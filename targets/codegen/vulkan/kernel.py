"""The state of one kernel during code generation, and the building blocks of all emitters."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tvm import ir, sym, tirx

from .body import Body
from .buffer import Memory
from .capabilities import Claims
from .opcodes import Op
from .types import BOOL, UINT32, WIDEST, Type, Value, parse, type_id
from .words import Words

Emit = Callable[["Kernel", Any], Any]
"""Emits one class of expression (returns a Value) or of statement (returns nothing)."""

FLOAT_FORMATS = {16: ("<e", "<H"), 32: ("<f", "<I"), 64: ("<d", "<Q")}


@dataclass
class Matrices:
    """An array of cooperative matrices, with the variable of each by its index."""

    name: str
    element: Type
    use: int  # left operand, right operand or accumulator
    held: dict[int, tuple[int, int]] = field(default_factory=dict)  # -> (type, variable)


class Kernel:
    """One shader under construction.

    `expressions` and `statements` map classes of TIR nodes to their emitters (`emit.py`).
    """

    def __init__(
        self,
        name: str,
        attributes: Mapping[str, Any],
        expressions: Mapping[type, Emit],
        statements: Mapping[type, Emit],
    ) -> None:
        self.name = name
        self.words = Words()
        self.claims = Claims(name, attributes, self.words)
        self.body = Body(self.words)
        self.expressions = expressions
        self.statements = statements
        self.values: dict[tirx.Var, Value] = {}
        self.memory: dict[tirx.Var, Memory] = {}  # by the variable that holds a buffer's address
        self.matrices: dict[tirx.Var, Matrices] = {}
        self.partials: dict[Type, int] = {}  # shared arrays of reductions
        self.blocks: dict[Type, int] = {}  # structures of buffers by their units
        self.builtins: dict[tuple[int, Type], int] = {}
        self.threads: dict[str, int] = {}  # tag -> extent of the workgroup
        self.loops: list[tuple[int, int]] = []  # (merge, continue) of the enclosing loops
        self.row: dict[str, int] = {}  # tag -> extent, if threads are linear in x: threads.py
        self.shared_bytes = 0
        self.subgroup = (False, 0)  # (exact, threads) of the required subgroup: subgroups.py
        self.analyzer = sym.Analyzer()

    # dispatch

    def expr(self, expr: ir.Expr) -> Value:
        emit = self.expressions.get(type(expr))
        if emit is None:
            self.fail(f"expression {type(expr).__name__} is unknown: {expr}")
        return emit(self, expr)

    def scalar(self, expr: ir.Expr) -> int:
        """The single part of a scalar or short vector."""
        (part,) = self.expr(expr)
        return part

    def stmt(self, stmt: tirx.stmt.Stmt) -> None:
        emit = self.statements.get(type(stmt))
        if emit is None:
            self.fail(f"statement {type(stmt).__name__} is unknown:\n{stmt}")
        emit(self, stmt)

    def fail(self, message: str) -> NoReturn:
        self.claims.fail(message)

    # types and constants

    def type_of(self, expr: ir.Expr) -> Type:
        """The type of a TIR expression."""
        return parse(str(expr.ty.dtype))

    def id_of(self, type: Type) -> int:
        """The id of the SPIR-V type of a part."""
        return type_id(self.words, type)

    def constant(self, type: Type, value: float | int | bool) -> int:
        """A constant part with the same value in all lanes."""
        if type.lanes > 1:
            lane = self.constant(type.scalar, value)
            return self.words.constant(Op.ConstantComposite, self.id_of(type), *[lane] * type.lanes)
        if type.kind == "bool":
            op = Op.ConstantTrue if value else Op.ConstantFalse
            return self.words.constant(op, self.id_of(BOOL))
        self.claims.compute(type)
        return self.words.constant(Op.Constant, self.id_of(type), *self._bits(type, value))

    def _bits(self, type: Type, value: float | int) -> tuple[int, ...]:
        """Words of a literal: the bits of a float, or a sign-extended integer."""
        if type.kind == "float":
            number, bits = FLOAT_FORMATS[type.bits]
            (value,) = struct.unpack(bits, struct.pack(number, _in_range(type, float(value))))
        value = int(value)
        if type.bits < 64:
            return (value & 0xFFFFFFFF,)
        return value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF

    def uint(self, value: int) -> int:
        return self.constant(UINT32, value)

    def same(self, type: Type, value: float | int | bool) -> Value:
        """A constant value with the same number in all lanes."""
        if type.is_packed:
            word = int(value) & 0xFF
            return (self.uint(word * 0x01010101),) * len(type.parts)
        return tuple(self.constant(part, value) for part in type.parts)

    # indices

    def is_multiple(self, index: ir.Expr, of: int) -> bool:
        return of == 1 or self.analyzer.can_prove_equal(tirx.floormod(index, of), 0)

    def divide(self, index: ir.Expr, by: int) -> ir.Expr:
        """Divide an index by `by`, of which it is a multiple."""
        return index if by == 1 else self.analyzer.simplify(tirx.floordiv(index, by))

    def bind(self, variable: tirx.Var, value: ir.Expr) -> None:
        """Bind a variable to a value, also for the analysis of alignments."""
        self.values[variable] = self.expr(value)
        if self.type_of(value).is_integer and self.type_of(value).lanes == 1:
            self.analyzer.bind(variable, value)

    # parts and lanes

    def each(self, type: Type, op: int, *operands: Value) -> Value:
        """Apply a pure instruction to every part; `type` is that of the result."""
        return tuple(
            self.body.pure(op, self.id_of(part), *parts)
            for part, *parts in zip(type.parts, *operands, strict=True)
        )

    def lane(self, type: Type, value: Value, lane: int) -> int:
        """Extract one lane of an unpacked value."""
        part = type.parts[lane // WIDEST]
        if part.lanes == 1:
            return value[lane // WIDEST]
        self.claims.compute(part)
        return self.body.pure(
            Op.CompositeExtract, self.id_of(type.scalar), value[lane // WIDEST], lane % WIDEST
        )

    def lanes(self, type: Type, value: Value) -> list[int]:
        return [self.lane(type, value, lane) for lane in range(type.lanes)]

    def vector(self, type: Type, lanes: list[int]) -> Value:
        """Build an unpacked value from its lanes."""
        parts, rest = [], lanes
        for part in type.parts:
            mine, rest = rest[: part.lanes], rest[part.lanes :]
            whole = part.lanes > 1
            op = Op.CompositeConstruct
            if whole:
                self.claims.compute(part)
            parts.append(self.body.pure(op, self.id_of(part), *mine) if whole else mine[0])
        return tuple(parts)

    def spread(self, type: Type, lane: int) -> Value:
        """Build an unpacked value with the same scalar in every lane."""
        return self.vector(type, [lane] * type.lanes)


def _in_range(type: Type, value: float) -> float:
    """Replace out-of-range values by infinity, as a conversion on the device would."""
    try:
        struct.pack(FLOAT_FORMATS[type.bits][0], value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return value
