"""Arithmetic, comparisons and logic: one instruction per part for each TIR node class."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.ir import prim

from .kernel import Emit, Kernel
from .opcodes import Glsl, Op
from .packed import pack, unpack, wide
from .types import BOOL, Type, Value


@dataclass(frozen=True)
class ByKind:
    """The instruction for each kind of operand; 0 if there is none."""

    for_float: int = 0
    for_int: int = 0
    for_uint: int = 0
    for_bool: int = 0

    def of(self, k: Kernel, type: Type, name: str) -> int:
        op: int = getattr(self, f"for_{type.kind}", 0)
        return op or k.fail(f"{name} of {type} is unknown")


ARITHMETIC = {
    prim.Add: ByKind(Op.FAdd, Op.IAdd, Op.IAdd),
    prim.Sub: ByKind(Op.FSub, Op.ISub, Op.ISub),
    prim.Mul: ByKind(Op.FMul, Op.IMul, Op.IMul, Op.LogicalAnd),
    prim.Div: ByKind(Op.FDiv, Op.SDiv, Op.UDiv),
    prim.And: ByKind(for_bool=Op.LogicalAnd),
    prim.Or: ByKind(for_bool=Op.LogicalOr),
    prim.BitwiseAnd: ByKind(0, Op.BitwiseAnd, Op.BitwiseAnd, Op.LogicalAnd),
    prim.BitwiseOr: ByKind(0, Op.BitwiseOr, Op.BitwiseOr, Op.LogicalOr),
    prim.BitwiseXor: ByKind(0, Op.BitwiseXor, Op.BitwiseXor, Op.LogicalNotEqual),
    prim.LShift: ByKind(0, Op.ShiftLeftLogical, Op.ShiftLeftLogical),
    prim.RShift: ByKind(0, Op.ShiftRightArithmetic, Op.ShiftRightLogical),
}
# Operations that apply to four packed bytes as they do to their word.
BITWISE = (prim.BitwiseAnd, prim.BitwiseOr, prim.BitwiseXor)
# With a NaN operand, only NE is true.
COMPARISONS = {
    prim.EQ: ByKind(Op.FOrdEqual, Op.IEqual, Op.IEqual, Op.LogicalEqual),
    prim.NE: ByKind(Op.FUnordNotEqual, Op.INotEqual, Op.INotEqual, Op.LogicalNotEqual),
    prim.LT: ByKind(Op.FOrdLessThan, Op.SLessThan, Op.ULessThan),
    prim.LE: ByKind(Op.FOrdLessThanEqual, Op.SLessThanEqual, Op.ULessThanEqual),
    prim.GT: ByKind(Op.FOrdGreaterThan, Op.SGreaterThan, Op.UGreaterThan),
    prim.GE: ByKind(Op.FOrdGreaterThanEqual, Op.SGreaterThanEqual, Op.UGreaterThanEqual),
}
# GLSL.std.450. With one NaN operand the result may be either; SPIR-V leaves it to the device.
EXTREMES = {
    prim.Max: ByKind(Glsl.FMax, Glsl.SMax, Glsl.UMax),
    prim.Min: ByKind(Glsl.FMin, Glsl.SMin, Glsl.UMin),
}


def binary(node: type) -> Emit:
    """An emitter for a binary operation whose operands have the type of the result."""

    def emit(k: Kernel, e: prim.BinaryOpExpr) -> Value:
        return compute(k, node, k.type_of(e), k.expr(e.a), k.expr(e.b))

    return emit


def compute(k: Kernel, node: type, type: Type, a: Value, b: Value) -> Value:
    """Apply `node` to two values of `type`."""
    if type.is_packed and node not in BITWISE:
        wider = unpack(k, type, a), unpack(k, type, b)
        return pack(k, type, compute(k, node, wide(type), *wider))
    k.claims.compute(type)
    if node in EXTREMES:
        return glsl(k, type, EXTREMES[node].of(k, type, node.__name__), a, b)
    return k.each(type, ARITHMETIC[node].of(k, type, node.__name__), a, b)


def glsl(k: Kernel, type: Type, number: int, *operands: Value) -> Value:
    """Apply instruction `number` of GLSL.std.450 to every part."""
    return tuple(
        k.body.pure(Op.ExtInst, k.id_of(part), k.words.glsl(), number, *parts)
        for part, *parts in zip(type.parts, *operands, strict=True)
    )


def comparison(node: type) -> Emit:
    def emit(k: Kernel, e: prim.CmpExpr) -> Value:
        return compare(k, node, k.type_of(e.a), k.expr(e.a), k.expr(e.b))

    return emit


def compare(k: Kernel, node: type, type: Type, a: Value, b: Value) -> Value:
    """Compare two values of `type`; the result has a bool per lane."""
    if type.is_packed:
        return compare(k, node, wide(type), unpack(k, type, a), unpack(k, type, b))
    k.claims.compute(type)
    return k.each(BOOL.of(type.lanes), COMPARISONS[node].of(k, type, node.__name__), a, b)


def remainder(k: Kernel, e: prim.Mod) -> Value:
    """a - b * (a / b): OpSRem with a negative operand is undefined in Vulkan."""
    type, a, b = k.type_of(e), k.expr(e.a), k.expr(e.b)
    if type.kind == "uint" and not type.is_packed:
        k.claims.compute(type)
        return k.each(type, Op.UMod, a, b)
    whole = compute(k, prim.Div, type, a, b)
    return compute(k, prim.Sub, type, a, compute(k, prim.Mul, type, whole, b))


def floor_divide(k: Kernel, e: prim.FloorDiv) -> Value:
    return _floor(k, k.type_of(e), k.expr(e.a), k.expr(e.b))[0]


def floor_remainder(k: Kernel, e: prim.FloorMod) -> Value:
    return _floor(k, k.type_of(e), k.expr(e.a), k.expr(e.b))[1]


def _floor(k: Kernel, type: Type, a: Value, b: Value) -> tuple[Value, Value]:
    """Floor quotient and remainder.

    The quotient is one less than the truncated one if remainder and divisor have different signs.
    """
    whole = compute(k, prim.Div, type, a, b)
    rest = compute(k, prim.Sub, type, a, compute(k, prim.Mul, type, whole, b))
    if type.kind == "uint":
        return whole, rest
    zero, one = k.same(type, 0), k.same(type, 1)
    signs = compute(k, prim.BitwiseXor, type, rest, b)
    bools = BOOL.of(type.lanes)
    differ = compare(k, prim.LT, type, signs, zero)
    inexact = compare(k, prim.NE, type, rest, zero)
    less = compute(k, prim.And, bools, differ, inexact)
    return (
        choose(k, type, less, compute(k, prim.Sub, type, whole, one), whole),
        choose(k, type, less, compute(k, prim.Add, type, rest, b), rest),
    )


def choose(k: Kernel, type: Type, condition: Value, then: Value, otherwise: Value) -> Value:
    """OpSelect per lane; the condition has as many lanes as `type`."""
    if type.is_packed:
        a, b = unpack(k, type, then), unpack(k, type, otherwise)
        return pack(k, type, choose(k, wide(type), condition, a, b))
    k.claims.compute(type)
    return k.each(type, Op.Select, condition, then, otherwise)


def select(k: Kernel, e: prim.Select) -> Value:
    type, condition = k.type_of(e), k.expr(e.condition)
    if type.lanes > 1 and k.type_of(e.condition).lanes == 1:
        condition = k.spread(BOOL.of(type.lanes), condition[0])
    return choose(k, type, condition, k.expr(e.true_value), k.expr(e.false_value))


def logical_not(k: Kernel, e: prim.Not) -> Value:
    return k.each(k.type_of(e), Op.LogicalNot, k.expr(e.a))


def bitwise_not(k: Kernel, e: prim.BitwiseNot) -> Value:
    return complement(k, k.type_of(e), k.expr(e.a))


def complement(k: Kernel, type: Type, a: Value) -> Value:
    k.claims.compute(type)
    return k.each(type, Op.LogicalNot if type.kind == "bool" else Op.Not, a)


EXPRESSIONS: dict[type, Emit] = {
    **{node: binary(node) for node in (*ARITHMETIC, *EXTREMES)},
    **{node: comparison(node) for node in COMPARISONS},
    prim.Mod: remainder,
    prim.FloorDiv: floor_divide,
    prim.FloorMod: floor_remainder,
    prim.Select: select,
    prim.Not: logical_not,
    prim.BitwiseNot: bitwise_not,
}
