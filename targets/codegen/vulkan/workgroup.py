"""The calls that `reductions.py` inserts: a reduction over a workgroup, returned to all threads."""

from __future__ import annotations

from tvm import ir
from tvm.ir import prim

from .arithmetic import ByKind, compare, compute
from .calls import External, barrier
from .kernel import Kernel
from .memory import access_words
from .opcodes import (
    GROUP_OPERATION_REDUCE,
    LOOP_CONTROL_NONE,
    SCOPE_SUBGROUP,
    BuiltIn,
    Op,
    StorageClass,
)
from .threads import builtin, thread_count
from .types import BOOL, UINT32, Type, Value, pointer_id

FEATURE = "subgroup arithmetic"
OPERATIONS = {
    prim.Add: ByKind(Op.GroupNonUniformFAdd, Op.GroupNonUniformIAdd, Op.GroupNonUniformIAdd),
    prim.Max: ByKind(Op.GroupNonUniformFMax, Op.GroupNonUniformSMax, Op.GroupNonUniformUMax),
    prim.Min: ByKind(Op.GroupNonUniformFMin, Op.GroupNonUniformSMin, Op.GroupNonUniformUMin),
}


def reduction(node: type) -> External:
    """An emitter for a workgroup reduction.

    The type is of 32 bits: subgroup operations on narrower ones are a separate feature.
    """

    def emit(k: Kernel, e: ir.Call) -> Value:
        (value,) = k.expr(e.args[1])
        k.claims.need(FEATURE, "a reduction over the workgroup")
        return (_reduce(k, node, k.type_of(e), value),)

    return emit


def _reduce(k: Kernel, node: type, type: Type, value: int) -> int:
    op = OPERATIONS[node].of(k, type, "a reduction")
    scope = k.uint(SCOPE_SUBGROUP)
    mine = k.body.compute(op, k.id_of(type), scope, GROUP_OPERATION_REDUCE, value)
    partial = _partial(k, type)
    barrier(k)  # all threads have read the results of the previous reduction
    _write_once(k, _place(k, type, partial, builtin(k, BuiltIn.SubgroupId, UINT32)), mine)
    barrier(k)
    return _combine(k, node, type, partial)


def _partial(k: Kernel, type: Type) -> int:
    """A shared array with one element per thread, the largest possible number of subgroups."""
    if type not in k.partials:
        count = thread_count(k)
        array = k.words.type(Op.TypeArray, k.id_of(type), k.uint(count))
        pointer = pointer_id(k.words, StorageClass.Workgroup, array)
        k.partials[type] = k.words.variable(pointer, StorageClass.Workgroup)
        k.words.name(k.partials[type], "partial")
        k.shared_bytes += count * type.bytes
    return k.partials[type]


def _place(k: Kernel, type: Type, array: int, index: int) -> int:
    pointer = pointer_id(k.words, StorageClass.Workgroup, k.id_of(type))
    return k.body.pure(Op.AccessChain, pointer, array, index)


def _write_once(k: Kernel, place: int, value: int) -> None:
    """Store a value from one thread of the subgroup."""
    body = k.body
    chosen = body.compute(Op.GroupNonUniformElect, k.id_of(BOOL), k.uint(SCOPE_SUBGROUP))
    inside, merge = k.words.id(), k.words.id()
    body.select(chosen, inside, merge, merge)
    body.label(inside)
    body.do(Op.Store, place, value, *access_words(k))
    body.branch(merge)
    body.label(merge)


def _combine(k: Kernel, node: type, type: Type, partial: int) -> int:
    """Combine the partial results in sequence; every thread computes the same."""
    body, words = k.body, k.words
    count = builtin(k, BuiltIn.NumSubgroups, UINT32)
    place = _place(k, type, partial, k.uint(0))
    first = body.compute(Op.Load, k.id_of(type), place, *access_words(k))
    head, test, inside, next, merge = (words.id() for _ in range(5))
    index, after, total = words.id(), words.id(), words.id()
    before, sum_after = body.current, words.id()
    body.branch(head)
    body.label(head)
    body.do(Op.Phi, k.id_of(UINT32), index, k.uint(1), before, after, next)
    body.do(Op.Phi, k.id_of(type), total, first, before, sum_after, next)
    body.do(Op.LoopMerge, merge, next, LOOP_CONTROL_NONE)
    body.branch(test)
    body.label(test)
    with body.scope():
        (goes_on,) = compare(k, prim.LT, UINT32, (index,), (count,))
        body.branch_if(goes_on, inside, merge)
        body.label(inside)
        place = _place(k, type, partial, index)
        other = body.compute(Op.Load, k.id_of(type), place, *access_words(k))
        (combined,) = compute(k, node, type, (total,), (other,))
        body.branch(next)
    body.label(next)
    body.do(Op.IAdd, k.id_of(UINT32), after, index, k.uint(1))
    # Copy to the id that the phi refers to.
    body.do(Op.CopyObject, k.id_of(type), sum_after, combined)
    body.branch(head)
    body.label(merge)
    return total


EXTERNALS: dict[str, External] = {
    "handglass_workgroup_add": reduction(prim.Add),
    "handglass_workgroup_max": reduction(prim.Max),
    "handglass_workgroup_min": reduction(prim.Min),
}
