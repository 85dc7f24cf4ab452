"""Casts and reinterpretations."""

from __future__ import annotations

from tvm import ir
from tvm.ir import prim

from .arithmetic import choose
from .kernel import Emit, Kernel
from .opcodes import Op
from .packed import pack, unpack, wide
from .types import INT32, UINT32, WIDEST, Type, Value

CONVERSIONS = {
    ("float", "int"): Op.ConvertFToS,
    ("float", "uint"): Op.ConvertFToU,
    ("int", "float"): Op.ConvertSToF,
    ("uint", "float"): Op.ConvertUToF,
}


def cast(k: Kernel, e: prim.Cast) -> Value:
    return convert(k, k.type_of(e.value), k.type_of(e), k.expr(e.value))


def convert(k: Kernel, source: Type, target: Type, value: Value) -> Value:
    """Convert a value: floats to integers round toward zero, narrower integers are truncated."""
    if source == target:
        return value
    k.claims.pass_through(target)
    if source.is_packed:
        return convert(k, wide(source), target, unpack(k, source, value))
    if target.is_packed:
        return pack(k, target, convert(k, source, wide(target), value))
    if target.kind == "bool":
        op = Op.FUnordNotEqual if source.kind == "float" else Op.INotEqual
        return k.each(target, op, value, k.same(source, 0))
    if source.kind == "bool":
        return choose(k, target, value, k.same(target, 1), k.same(target, 0))
    if source.kind == target.kind == "float":
        return k.each(target, Op.FConvert, value)
    if "float" in (source.kind, target.kind):
        return _between_kinds(k, source, target, value)
    return _between_integers(k, source, target, value)


def _between_kinds(k: Kernel, source: Type, target: Type, value: Value) -> Value:
    """Convert between float and integer, with at least 32 bits: narrow types go through 32 bits.

    So the conversion needs no narrow arithmetic.
    """
    middle_source, middle_target = _at_least_32(source), _at_least_32(target)
    value = convert(k, source, middle_source, value)
    k.claims.compute(middle_source)
    k.claims.compute(middle_target)
    op = CONVERSIONS[source.kind, target.kind]
    return convert(k, middle_target, target, k.each(middle_target, op, value))


def _at_least_32(type: Type) -> Type:
    return Type(type.kind, max(type.bits, 32), type.lanes)


def _between_integers(k: Kernel, source: Type, target: Type, value: Value) -> Value:
    """Convert between integers: the signedness of the source determines the extension.

    OpUConvert produces unsigned numbers only. A narrow value may only change its width, so its
    signedness changes at 32 bits.
    """
    if source.bits == target.bits:
        k.claims.compute(target)
        return k.each(target, Op.Bitcast, value)
    if source.kind == "int":
        return k.each(target, Op.SConvert, value)
    if target.kind == "int" and target.bits < UINT32.bits:
        value = convert(k, source, INT32.of(source.lanes), value)
        return convert(k, INT32.of(source.lanes), target, value)
    unsigned = Type("uint", target.bits, target.lanes)
    value = k.each(unsigned, Op.UConvert, value)
    return value if target.kind == "uint" else k.each(target, Op.Bitcast, value)


def reinterpret(k: Kernel, e: ir.Call) -> Value:
    """Reinterpret the bits as another type of the same size; packed bytes are words already."""
    (argument,) = e.args
    source, target = k.type_of(argument), k.type_of(e)
    value = k.expr(argument)
    if source == target:
        return value
    if source.bits * source.lanes != target.bits * target.lanes:
        k.fail(f"{source} is reinterpreted as {target}, which has another size")
    if source.lanes == target.lanes and not (source.is_packed or target.is_packed):
        k.claims.compute(target)
        return k.each(target, Op.Bitcast, value)
    return from_words(k, target, to_words(k, source, value))


def to_words(k: Kernel, type: Type, value: Value) -> list[int]:
    """The 32-bit words of a value, the first lane in the lowest bits."""
    if type.is_packed:
        return list(value)
    words = []
    for part, one in zip(type.parts, value, strict=True):
        count = _word_count(k, part)
        form = UINT32.of(count)
        if part != form:
            one = k.body.pure(Op.Bitcast, k.id_of(form), one)
        words += k.lanes(form, (one,))
    return words


def from_words(k: Kernel, type: Type, words: list[int]) -> Value:
    if type.is_packed:
        return tuple(words)
    k.claims.compute(type)
    parts = []
    for part in type.parts:
        count = _word_count(k, part)
        mine, words = words[:count], words[count:]
        form = UINT32.of(count)
        (one,) = k.vector(form, mine)
        parts.append(one if part == form else k.body.pure(Op.Bitcast, k.id_of(part), one))
    return tuple(parts)


def _word_count(k: Kernel, part: Type) -> int:
    count, rest = divmod(part.bits * part.lanes, UINT32.bits)
    if rest or count > WIDEST:
        k.fail(f"{part} does not consist of one to four 32-bit words")
    return count


def let(k: Kernel, e: prim.Let) -> Value:
    k.bind(e.var, e.value)
    return k.expr(e.body)


def integer(k: Kernel, e: prim.IntImm) -> Value:
    return k.same(k.type_of(e), int(e.value))


def floating(k: Kernel, e: prim.FloatImm) -> Value:
    return k.same(k.type_of(e), float(e.value))


def variable(k: Kernel, e: ir.Var) -> Value:
    if e not in k.values:
        k.fail(f"variable {e} is used before it is defined")
    return k.values[e]


EXPRESSIONS: dict[type, Emit] = {
    prim.Cast: cast,
    prim.Let: let,
    prim.IntImm: integer,
    prim.FloatImm: floating,
    ir.Var: variable,
}
