"""Dot product of four bytes: `call_pure_extern("int32", "__dp4a", a, b, acc)`.

`a` and `b` are 32-bit words or packed vectors of four bytes. With an int32 result all bytes are
signed, with uint32 all are unsigned; `vk.dot4_signed_unsigned` treats those of `b` as unsigned. If
the target does not claim the instruction, the result is computed byte by byte.
"""

from __future__ import annotations

from tvm import ir
from tvm.ir import prim

from .arithmetic import compute
from .calls import External
from .conversions import convert, to_words
from .kernel import Kernel
from .opcodes import PACKED_VECTOR_4X8_BIT, Op
from .packed import unpack, wide
from .types import INT32, UINT32, WIDEST, Type, Value

FEATURE = "integer dot product"
SIGNED, UNSIGNED = Type("int", 8, WIDEST), Type("uint", 8, WIDEST)
INSTRUCTIONS = {
    (SIGNED, SIGNED): Op.SDot,
    (UNSIGNED, UNSIGNED): Op.UDot,
    (SIGNED, UNSIGNED): Op.SUDot,
}


def dp4a(k: Kernel, e: ir.Call) -> Value:
    form = SIGNED if k.type_of(e).kind == "int" else UNSIGNED
    return _dot(k, e, form, form)


def dot4_signed_unsigned(k: Kernel, e: ir.Call) -> Value:
    return _dot(k, e, SIGNED, UNSIGNED)


def _dot(k: Kernel, e: ir.Call, form_a: Type, form_b: Type) -> Value:
    type, (a, b, start) = k.type_of(e), e.args[1:]
    if type not in (INT32, UINT32) or k.type_of(start) != type:
        k.fail(f"a dot product of bytes is added to int32 or uint32: {e}")
    words = [_word(k, a), _word(k, b)]
    native = k.claims.has(FEATURE)
    product = _instruction if native else _emulation
    return compute(k, prim.Add, type, product(k, type, form_a, form_b, *words), k.expr(start))


def _word(k: Kernel, e: ir.Expr) -> int:
    type, value = k.type_of(e), k.expr(e)
    if type.bits * type.lanes != UINT32.bits:
        k.fail(f"a dot product takes words of four bytes, not {type}: {e}")
    return to_words(k, type, value)[0]


def _instruction(k: Kernel, type: Type, form_a: Type, form_b: Type, a: int, b: int) -> Value:
    k.claims.need(FEATURE, "a dot product of bytes")
    op = INSTRUCTIONS[form_a, form_b]
    return (k.body.pure(op, k.id_of(type), a, b, PACKED_VECTOR_4X8_BIT),)


def _emulation(k: Kernel, type: Type, form_a: Type, form_b: Type, a: int, b: int) -> Value:
    lanes = type.of(WIDEST)
    wide_a = convert(k, wide(form_a), lanes, unpack(k, form_a, (a,)))
    wide_b = convert(k, wide(form_b), lanes, unpack(k, form_b, (b,)))
    products = k.lanes(lanes, compute(k, prim.Mul, lanes, wide_a, wide_b))
    total: Value = (products[0],)
    for one in products[1:]:
        total = compute(k, prim.Add, type, total, (one,))
    return total


EXTERNALS: dict[str, External] = {
    "__dp4a": dp4a,
    "vk.dot4_signed_unsigned": dot4_signed_unsigned,
}
