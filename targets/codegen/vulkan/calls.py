"""Calls: TVM's intrinsics, and external functions by their C names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tvm_ffi
from tvm import ir
from tvm.ir import prim

from .arithmetic import choose, complement, compute
from .conversions import reinterpret
from .kernel import Emit, Kernel
from .mathematics import FUNCTIONS
from .memory import memory_of
from .opcodes import (
    SCOPE_WORKGROUP,
    SEMANTICS_WORKGROUP_ACQUIRE_RELEASE,
    SEMANTICS_WORKGROUP_VULKAN,
    Op,
)
from .types import BOOL, FLOAT32, Value

External = Callable[[Kernel, ir.Call], Value]

NOTHING: Value = ()  # the value of a call without result
FLOATS_ONLY = {name for name in FUNCTIONS if name not in ("abs", "popcount", "clz")}

DIVISIONS = (prim.Div, prim.Mod, prim.FloorDiv, prim.FloorMod)

OPERATORS: dict[str, type] = {
    "bitwise_and": prim.BitwiseAnd,
    "bitwise_or": prim.BitwiseOr,
    "bitwise_xor": prim.BitwiseXor,
    "shift_left": prim.LShift,
    "shift_right": prim.RShift,
}


def calls(externals: Mapping[str, External]) -> Emit:
    """An emitter for calls, by the name of the intrinsic or of the `call_extern` function.

    Functions in `externals`, which schedules use, take precedence.
    """
    return lambda k, e: _call(k, e, externals)


def _call(k: Kernel, e: ir.Call, externals: Mapping[str, External]) -> Value:
    name = str(e.op.name).removeprefix("tirx.").removeprefix("prim.")
    if name in ("call_extern", "call_pure_extern"):
        return _external(k, e, externals)
    if name in CALLS:
        return CALLS[name](k, e)
    if name in OPERATORS:
        a, b = (k.expr(argument) for argument in e.args)
        return compute(k, OPERATORS[name], k.type_of(e), a, b)
    if name in FUNCTIONS:
        return _function(k, name, list(e.args))
    return k.fail(f"intrinsic {name} is unknown: {e}")


def _external(k: Kernel, e: ir.Call, externals: Mapping[str, External]) -> Value:
    """`expf(x)` and the like, and the functions that handglass schedules call."""
    name = str(e.args[0].value)
    if name in externals:
        return externals[name](k, e)
    known = name if name in FUNCTIONS else name.removesuffix("f")
    if known not in FUNCTIONS:
        k.fail(f"external function {name} is unknown")
    return _function(k, known, list(e.args[1:]))


def _function(k: Kernel, name: str, arguments: list[ir.Expr]) -> Value:
    type = k.type_of(arguments[0])
    k.claims.compute(type)
    if name in FLOATS_ONLY and type.kind != "float":
        k.fail(f"{name} of {type} is not supported, only of floats")
    if type.bits > FLOAT32.bits and type.kind == "float":
        k.fail(f"{name} of {type}: GLSL.std.450 has the function only for 16 and 32 bits")
    return FUNCTIONS[name](k, type, *(k.expr(argument) for argument in arguments))


def if_then_else(k: Kernel, e: ir.Call) -> Value:
    """A branch rather than a select if it may guard an out-of-bounds load or a division."""
    condition, then, otherwise = e.args
    if k.type_of(condition).lanes > 1:
        k.fail(f"if_then_else with a vector of conditions: {e}")
    type, body = k.type_of(e), k.body
    k.claims.compute(type)
    chosen = k.scalar(condition)
    if _is_harmless(k, then) and _is_harmless(k, otherwise):
        every = k.spread(BOOL.of(type.lanes), chosen)
        return choose(k, type, every, k.expr(then), k.expr(otherwise))
    first, second, merge = k.words.id(), k.words.id(), k.words.id()
    body.select(chosen, first, second, merge)
    a, after_a = _way(k, first, then, merge)
    b, after_b = _way(k, second, otherwise, merge)
    body.label(merge)
    return tuple(
        body.compute(Op.Phi, k.id_of(part), x, after_a, y, after_b)
        for part, x, y in zip(type.parts, a, b, strict=True)
    )


def _is_harmless(k: Kernel, expr: ir.Expr) -> bool:
    """Whether the expression can be evaluated speculatively.

    It must read only constant indices of local or shared arrays and divide only by safe constants.
    """
    loads: list[ir.TensorLoad] = []
    divisions: list[prim.BinaryOpExpr] = []
    divides = [(node, divisions.append) for node in DIVISIONS]
    tvm_ffi.structural_walk(expr, [(ir.TensorLoad, loads.append), *divides])
    if any(k.type_of(e).is_integer and not _is_safe(e.b) for e in divisions):
        return False
    constant = all(isinstance(i, prim.IntImm) for load in loads for i in load.indices)
    return constant and not any(memory_of(k, load.source).is_argument for load in loads)


def _is_safe(divisor: ir.Expr) -> bool:
    """Whether the divisor is a constant other than 0, and other than -1, which may overflow."""
    if isinstance(divisor, prim.Broadcast):
        divisor = divisor.value
    return isinstance(divisor, prim.IntImm) and int(divisor) not in (0, -1)


def _way(k: Kernel, block: int, expr: ir.Expr, merge: int) -> tuple[Value, int]:
    """Emit one path of a branch. Returns its value and the block in which it ends."""
    k.body.label(block)
    with k.body.scope():
        value = k.expr(expr)
    last = k.body.current
    k.body.branch(merge)
    return value, last


def leave_loop(k: Kernel, e: object) -> Value:
    """`break`, as a call or a statement: branch to the end of the innermost loop."""
    k.body.branch(k.loops[-1][0])
    return NOTHING


def next_turn(k: Kernel, e: object) -> Value:
    """`continue`."""
    k.body.branch(k.loops[-1][1])
    return NOTHING


def large_uint(k: Kernel, e: ir.Call) -> Value:
    """An unsigned constant of two 32-bit halves, the low one first."""
    low, high = (int(argument) for argument in e.args)
    return k.same(k.type_of(e), low & 0xFFFFFFFF | (high & 0xFFFFFFFF) << 32)


def storage_sync(k: Kernel, e: ir.Call) -> Value:
    """A workgroup barrier for any scope; subgroup operations need no separate barrier."""
    barrier(k)
    return NOTHING


def barrier(k: Kernel) -> None:
    """Wait for all threads of the workgroup and make their writes to shared memory visible."""
    vulkan = k.words.has_vulkan_memory_model
    semantics = SEMANTICS_WORKGROUP_VULKAN if vulkan else SEMANTICS_WORKGROUP_ACQUIRE_RELEASE
    scope = k.uint(SCOPE_WORKGROUP)
    k.body.do(Op.ControlBarrier, scope, scope, k.uint(semantics))


def bitwise_not(k: Kernel, e: ir.Call) -> Value:
    return complement(k, k.type_of(e), k.expr(e.args[0]))


def same(k: Kernel, e: ir.Call) -> Value:
    return k.expr(e.args[0])


def nothing(k: Kernel, e: ir.Call) -> Value:
    return NOTHING


def undefined(k: Kernel, e: ir.Call) -> Value:
    return k.same(k.type_of(e), 0)


def vector_low(k: Kernel, e: ir.Call) -> Value:
    return _half(k, e, 0)


def vector_high(k: Kernel, e: ir.Call) -> Value:
    return _half(k, e, 1)


def _half(k: Kernel, e: ir.Call, which: int) -> Value:
    source, type = k.type_of(e.args[0]), k.type_of(e)
    value = k.expr(e.args[0])
    if source.is_packed:
        if not type.is_packed:
            k.fail(f"half of {source} is not a whole number of words")
        return value[which * len(type.parts) : (which + 1) * len(type.parts)]
    lanes = k.lanes(source, value)
    return k.vector(type, lanes[which * type.lanes : (which + 1) * type.lanes])


CALLS: dict[str, External] = {
    "if_then_else": if_then_else,
    "break_loop": leave_loop,
    "continue_loop": next_turn,
    "large_uint_imm": large_uint,
    "tvm_storage_sync": storage_sync,
    "reinterpret": reinterpret,
    "bitwise_not": bitwise_not,
    "likely": same,
    "tvm_thread_invariant": same,
    "assume": nothing,
    "undef": undefined,
    "vectorlow": vector_low,
    "vectorhigh": vector_high,
}
