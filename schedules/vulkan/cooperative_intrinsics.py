"""Cooperative matrices (SPV_KHR_cooperative_matrix) as tensor intrinsics.

A subgroup holds a matrix together. A buffer of scope `wmma.*` is an array of such matrices. The
code generator implements four functions:

    vk.coopmat_fill(c, rows, columns, value, at)
    vk.coopmat_load(a, rows, columns, pointer, stride, 0, at)
    vk.coopmat_mma(c, a, b, at_c, at_a, at_b)
    vk.coopmat_store(c, rows, columns, pointer, stride, 0, at)

The arguments are the buffers' data, the index `at` of the matrix in each, the stride in elements,
and 0 for row-major memory. All threads of a subgroup must call them together.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from ..gpu.limits import Matrix

HALF, SUM = "float16", "float32"
SCOPES = {"a": "wmma.matrix_a", "b": "wmma.matrix_b", "c": "wmma.accumulator"}
Pair = tuple[tirx.PrimFunc, tirx.PrimFunc]


def intrinsic(name: str, matrix: Matrix) -> str:
    """Register "load_a", "load_b", "fill", "multiply" or "store" for matrices of this shape.

    Returns the full name of the intrinsic.
    """
    full = f"handglass.matrix.{name}.{matrix.rows}x{matrix.columns}x{matrix.inputs}"
    if TensorIntrin.get(full, allow_missing=True) is None:
        TensorIntrin.register(full, *MAKERS[name](matrix))
    return full


def shape_of(matrix: Matrix, use: str) -> tuple[int, int]:
    """(rows, columns) of the left operand a, the right operand b, or the sums c."""
    rows, columns, inputs = matrix.rows, matrix.columns, matrix.inputs
    return {"a": (rows, inputs), "b": (inputs, columns), "c": (rows, columns)}[use]


def _number(buffer, stride: Expr, shape: tuple[int, int]) -> Expr:
    """Index of the matrix in its buffer, where matrices are numbered in row-major order."""
    rows, columns = shape
    per_row = stride // columns
    row, column = buffer.elem_offset // stride // rows, buffer.elem_offset % stride // columns
    return row * per_row + column


def _load(matrix: Matrix, use: str) -> Pair:
    rows, columns = shape = shape_of(matrix, use)

    @T.prim_func(s_tir=True)
    def description(memory: T.handle, held: T.handle) -> None:
        m = T.match_buffer(memory, shape, HALF, offset_factor=1, scope="shared")
        h = T.match_buffer(held, shape, HALF, offset_factor=1, scope=SCOPES[use])
        with T.sblock("root"):
            T.reads(m[0:rows, 0:columns])
            T.writes(h[0:rows, 0:columns])
            for i, j in T.grid(T.int64(rows), T.int64(columns)):
                with T.sblock("load"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    h[vi, vj] = m[vi, vj]

    @T.prim_func(s_tir=True)
    def implementation(memory: T.handle, held: T.handle) -> None:
        s, t = T.int64(), T.int64()
        m = T.match_buffer(memory, shape, HALF, offset_factor=1, scope="shared", strides=[s, 1])
        h = T.match_buffer(held, shape, HALF, offset_factor=1, scope=SCOPES[use], strides=[t, 1])
        with T.sblock("root"):
            T.reads(m[0:rows, 0:columns])
            T.writes(h[0:rows, 0:columns])
            T.evaluate(
                T.call_extern(
                    "int32",
                    "vk.coopmat_load",
                    h.data,
                    rows,
                    columns,
                    m.access_ptr("r"),
                    s,
                    0,
                    _number(h, t, shape),
                )
            )

    return description, implementation


def _store(matrix: Matrix) -> Pair:
    rows, columns = shape = shape_of(matrix, "c")

    @T.prim_func(s_tir=True)
    def description(held: T.handle, memory: T.handle) -> None:
        h = T.match_buffer(held, shape, SUM, offset_factor=1, scope=SCOPES["c"])
        m = T.match_buffer(memory, shape, SUM, offset_factor=1, scope="shared")
        with T.sblock("root"):
            T.reads(h[0:rows, 0:columns])
            T.writes(m[0:rows, 0:columns])
            for i, j in T.grid(T.int64(rows), T.int64(columns)):
                with T.sblock("store"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    m[vi, vj] = h[vi, vj]

    @T.prim_func(s_tir=True)
    def implementation(held: T.handle, memory: T.handle) -> None:
        s, t = T.int64(), T.int64()
        h = T.match_buffer(held, shape, SUM, offset_factor=1, scope=SCOPES["c"], strides=[t, 1])
        m = T.match_buffer(memory, shape, SUM, offset_factor=1, scope="shared", strides=[s, 1])
        with T.sblock("root"):
            T.reads(h[0:rows, 0:columns])
            T.writes(m[0:rows, 0:columns])
            T.evaluate(
                T.call_extern(
                    "int32",
                    "vk.coopmat_store",
                    h.data,
                    rows,
                    columns,
                    m.access_ptr("w"),
                    s,
                    0,
                    _number(h, t, shape),
                )
            )

    return description, implementation


def _fill(matrix: Matrix) -> Pair:
    rows, columns = shape = shape_of(matrix, "c")

    @T.prim_func(s_tir=True)
    def description(held: T.handle) -> None:
        h = T.match_buffer(held, shape, SUM, offset_factor=1, scope=SCOPES["c"])
        with T.sblock("root"):
            T.reads()
            T.writes(h[0:rows, 0:columns])
            for i, j in T.grid(T.int64(rows), T.int64(columns)):
                with T.sblock("fill"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    h[vi, vj] = T.float32(0.0)

    @T.prim_func(s_tir=True)
    def implementation(held: T.handle) -> None:
        t = T.int64()
        h = T.match_buffer(held, shape, SUM, offset_factor=1, scope=SCOPES["c"], strides=[t, 1])
        with T.sblock("root"):
            T.reads()
            T.writes(h[0:rows, 0:columns])
            T.evaluate(
                T.call_extern(
                    "int32",
                    "vk.coopmat_fill",
                    h.data,
                    rows,
                    columns,
                    T.float32(0.0),
                    _number(h, t, shape),
                )
            )

    return description, implementation


def _multiply(matrix: Matrix) -> Pair:
    m, n, k = matrix.rows, matrix.columns, matrix.inputs

    @T.prim_func(s_tir=True)
    def description(left: T.handle, right: T.handle, sums: T.handle) -> None:
        a = T.match_buffer(left, (m, k), HALF, offset_factor=1, scope=SCOPES["a"])
        b = T.match_buffer(right, (k, n), HALF, offset_factor=1, scope=SCOPES["b"])
        c = T.match_buffer(sums, (m, n), SUM, offset_factor=1, scope=SCOPES["c"])
        with T.sblock("root"):
            T.reads(c[0:m, 0:n], a[0:m, 0:k], b[0:k, 0:n])
            T.writes(c[0:m, 0:n])
            for i, j, e in T.grid(T.int64(m), T.int64(n), T.int64(k)):
                with T.sblock("multiply"):
                    vi, vj, ve = T.axis.remap("SSR", [i, j, e])
                    c[vi, vj] = c[vi, vj] + T.Cast(SUM, a[vi, ve]) * T.Cast(SUM, b[ve, vj])

    @T.prim_func(s_tir=True)
    def implementation(left: T.handle, right: T.handle, sums: T.handle) -> None:
        r, s, t = T.int64(), T.int64(), T.int64()
        a = T.match_buffer(left, (m, k), HALF, offset_factor=1, scope=SCOPES["a"], strides=[r, 1])
        b = T.match_buffer(right, (k, n), HALF, offset_factor=1, scope=SCOPES["b"], strides=[s, 1])
        c = T.match_buffer(sums, (m, n), SUM, offset_factor=1, scope=SCOPES["c"], strides=[t, 1])
        with T.sblock("root"):
            T.reads(c[0:m, 0:n], a[0:m, 0:k], b[0:k, 0:n])
            T.writes(c[0:m, 0:n])
            T.evaluate(
                T.call_extern(
                    "int32",
                    "vk.coopmat_mma",
                    c.data,
                    a.data,
                    b.data,
                    _number(c, t, (m, n)),
                    _number(a, r, (m, k)),
                    _number(b, s, (k, n)),
                )
            )

    return description, implementation


MAKERS: dict[str, Callable[[Matrix], Pair]] = {
    "load_a": lambda matrix: _load(matrix, "a"),
    "load_b": lambda matrix: _load(matrix, "b"),
    "fill": _fill,
    "multiply": _multiply,
    "store": _store,
}
