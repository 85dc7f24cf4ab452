"""Cooperative matrices: `vk.coopmat_fill`, `load`, `mma` and `store`.

A buffer of scope wmma.matrix_a, wmma.matrix_b or wmma.accumulator is an array of matrices; the last
operands are the indices into it (constants, 0 if absent). Each matrix is a separate variable, whose
type the first fill or load determines. All layouts are row-major, strides count elements:

    vk.coopmat_fill(c, rows, columns, value, at)
    vk.coopmat_load(a, rows, columns, address_of(memory[i]), stride, 0, at)
    vk.coopmat_mma(c, a, b, at_c, at_a, at_b)                                     c += a b
    vk.coopmat_store(c, rows, columns, address_of(memory[i]), stride, 0, at)

Memory is a buffer argument or a shared array. All threads of a subgroup must execute the call.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm_ffi
from tvm import ir, tirx
from tvm.ir import prim
from tvm.tirx import stmt as S

from .calls import NOTHING, External
from .kernel import Kernel, Matrices
from .memory import element_pointer, memory_of, places
from .opcodes import (
    MATRIX_ROW_MAJOR,
    MATRIX_SIGNED_OPERANDS,
    MATRIX_USES,
    MEMORY_NON_PRIVATE_POINTER,
    SCOPE_SUBGROUP,
    Op,
    StorageClass,
)
from .subgroups import count_on_subgroups
from .types import Value, parse, pointer_id

FEATURE = "cooperative matrix"


def needs_matrices(k: Kernel, func: tirx.PrimFunc) -> None:
    """Require matrices and the Vulkan memory model, before the first access to memory."""
    found: list[S.AllocBuffer] = []
    tvm_ffi.structural_walk(func.body, (S.AllocBuffer, found.append))
    for allocation in found:
        if str(allocation.buffer.scope()) in MATRIX_USES:
            k.claims.need(FEATURE, f"buffer {allocation.buffer.name}")
            count_on_subgroups(k, k.claims.subgroup_size, exactly=True)


def declare_matrices(k: Kernel, buffer: tirx.Var) -> None:
    element, use = parse(str(buffer.ty.dtype)), MATRIX_USES[str(buffer.scope())]
    k.matrices[buffer] = Matrices(buffer.name, element, use)


def fill(k: Kernel, e: ir.Call) -> Value:
    _, data, rows, columns, value, *at = e.args
    type, variable = _new_matrix(k, data, at, int(rows), int(columns))
    whole = k.body.pure(Op.CompositeConstruct, type, k.scalar(value))
    k.body.do(Op.Store, variable, whole)
    return NOTHING


def load(k: Kernel, e: ir.Call) -> Value:
    _, data, rows, columns, address, stride, layout, *at = e.args
    type, variable = _new_matrix(k, data, at, int(rows), int(columns))
    place = (_pointer(k, address), *_layout(k, stride, layout))
    value = k.body.compute(Op.CooperativeMatrixLoadKHR, type, *place, MEMORY_NON_PRIVATE_POINTER)
    k.body.do(Op.Store, variable, value)
    return NOTHING


def multiply_add(k: Kernel, e: ir.Call) -> Value:
    _, c, a, b, *at = e.args
    held = [_matrix(k, data, at[i : i + 1]) for i, data in enumerate((c, a, b))]
    values = [k.body.compute(Op.Load, type, variable) for type, variable in held]
    type, variable = held[0]
    signed = [MATRIX_SIGNED_OPERANDS] if _matrices(k, a).element.kind == "int" else []
    sum_of, left, right = values
    result = k.body.compute(Op.CooperativeMatrixMulAddKHR, type, left, right, sum_of, *signed)
    k.body.do(Op.Store, variable, result)
    return NOTHING


def store(k: Kernel, e: ir.Call) -> Value:
    _, data, _, _, address, stride, layout, *at = e.args
    type, variable = _matrix(k, data, at)
    value = k.body.compute(Op.Load, type, variable)
    place = (_pointer(k, address, written=True), value, *_layout(k, stride, layout))
    k.body.do(Op.CooperativeMatrixStoreKHR, *place, MEMORY_NON_PRIVATE_POINTER)
    return NOTHING


def _matrices(k: Kernel, data: ir.Expr) -> Matrices:
    if isinstance(data, ir.Call) and str(data.op.name) == "tirx.buffer_data":
        data = data.args[0]
    if data not in k.matrices:
        k.fail(f"{data} is not an array of matrices of scope {', '.join(MATRIX_USES)}")
    return k.matrices[data]


def _number(k: Kernel, at: Sequence[ir.Expr]) -> int:
    number = k.analyzer.simplify(at[0]) if at else prim.IntImm("int32", 0)
    if not isinstance(number, prim.IntImm):
        k.fail(f"the index of a matrix is not constant: {number}")
    return int(number)


def _matrix(k: Kernel, data: ir.Expr, at: Sequence[ir.Expr]) -> tuple[int, int]:
    """Type and variable of a matrix that was filled or loaded."""
    matrices, number = _matrices(k, data), _number(k, at)
    if number not in matrices.held:
        k.fail(f"matrix {number} of {matrices.name} is used before it is filled or loaded")
    return matrices.held[number]


def _new_matrix(
    k: Kernel, data: ir.Expr, at: Sequence[ir.Expr], rows: int, columns: int
) -> tuple[int, int]:
    matrices, number = _matrices(k, data), _number(k, at)
    if number not in matrices.held:
        k.claims.compute(matrices.element)
        shape = (k.uint(SCOPE_SUBGROUP), k.uint(rows), k.uint(columns), k.uint(matrices.use))
        type = k.words.type(Op.TypeCooperativeMatrixKHR, k.id_of(matrices.element), *shape)
        pointer = pointer_id(k.words, StorageClass.Function, type)
        matrices.held[number] = type, k.body.local(pointer, StorageClass.Function)
    return matrices.held[number]


def _pointer(k: Kernel, address: ir.Call, written: bool = False) -> int:
    (element,) = address.args
    memory = memory_of(k, element.source)
    memory.is_written |= written
    unit, (index,) = places(k, memory, memory.element.scalar, element.indices)
    return element_pointer(k, memory, unit, index)


def _layout(k: Kernel, stride: ir.Expr, layout: ir.Expr) -> tuple[int, int]:
    if int(layout) != MATRIX_ROW_MAJOR:
        k.fail(f"matrices are row-major (layout {MATRIX_ROW_MAJOR}), not {layout}")
    return k.uint(MATRIX_ROW_MAJOR), k.scalar(stride)


EXTERNALS: dict[str, External] = {
    "vk.coopmat_fill": fill,
    "vk.coopmat_load": load,
    "vk.coopmat_mma": multiply_add,
    "vk.coopmat_store": store,
}
