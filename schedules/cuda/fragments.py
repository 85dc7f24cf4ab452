"""Warp-level matrix products of sm_80 and later as tensor intrinsics: ldmatrix and mma.sync.

A warp holds a matrix in fragments, whose layout PTX documents ("Matrix Fragments for mma.m16n8k16",
"for mma.m16n8k32"). A buffer of scope `local` that holds matrices is an array of fragments: matrix
number n of the buffer, counted by rows of matrices, has elements n * HELD to (n + 1) * HELD - 1 of
32 bits. The buffer is declared as large as the matrices themselves; what no lane uses vanishes when
the compiler moves the fragments to registers, for which all loops over matrices must be unrolled.

| intrinsic | from -> to | instructions |
|---|---|---|
| "load_a" | shared rows (16, inputs) -> fragment | ldmatrix.x4 |
| "load_b" | shared (inputs, 16) -> fragments of 8 columns | ldmatrix.x4.trans; bytes: two loads |
| "fill" | zeros -> fragments of 16 x 16 sums | moves |
| "multiply" | sums += a b | two mma.sync |
| "store" | sums -> shared (16, 16) | four 64-bit stores |

Bytes are in words of four inputs each, the first in its lowest bits. The device functions
(device_functions.py) travel with the calls. All threads of a warp must call them together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import DataType, tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from . import device_functions as device
from .copies import OPERANDS, Pair, copied

SIDE = 16
"""Rows and columns of a matrix of sums."""
WARP = 32
RESULTS = "shared"
"""Scope of sums on their way to the epilogue."""


@dataclass(frozen=True)
class Fragments:
    """An arithmetic of mma.sync."""

    name: str
    stored: tuple[str, str]
    """Types of both operands in memory, of the same size."""
    inputs: int
    """Inputs of a matrix, counted in these types: 32 bytes."""
    sums: str
    term: Callable[[Expr, Expr], Expr]
    """The product of an element of a and one of b, as operators write it."""
    load_b: device.Function | None
    """None: the matrices are made of what is in shared memory (int4.py)."""
    multiply: device.Function
    load_a: device.Function = device.LOAD
    store: device.Function = device.STORE
    apart: int = 8
    """Padding of a row of sums in shared memory, for which `store` has no bank conflicts."""
    by_column: bool = False
    """Whether the inputs of a column are adjacent in memory."""

    @property
    def size(self) -> int:
        """Bytes of a stored element."""
        return int(DataType(self.stored[0]).itemsize)

    @property
    def copied(self) -> int:
        """Elements that a thread copies at once."""
        return copied(self.stored[0])

    def type(self, use: str) -> str:
        """Type of the operand "a" or "b" in memory."""
        return self.stored["ab".index(use)]

    def shape(self, use: str) -> tuple[int, int]:
        """(rows, columns) of a matrix of the operand "a" or "b"."""
        return (SIDE, self.inputs) if use == "a" or self.by_column else (self.inputs, SIDE)

    def right(self, b: tirx.Buffer, k: Expr, j: Expr) -> Expr:
        """Input k of column j of a matrix of the operand "b"."""
        return b[j, k] if self.by_column else b[k, j]


def _product(a: Expr, b: Expr) -> Expr:
    return T.Cast("float32", a) * T.Cast("float32", b)


def _dot(a: Expr, b: Expr) -> Expr:
    return T.call_pure_extern("int32", "__dp4a", a, T.reinterpret("int32", b), 0)


HALVES = Fragments(
    *("half", ("float16", "float16"), 16, "float32", _product),
    load_b=device.LOAD_TRANSPOSED,
    multiply=device.MULTIPLY_HALVES,
)
DEQUANTIZED = Fragments(
    *("dequantized", ("float16", "float16"), 16, "float32", _product),
    load_b=None,
    multiply=device.MULTIPLY_HALVES,
    store=device.STORE_PAIRED,
    apart=16,
    by_column=True,
)
BYTES = Fragments(
    *("byte", ("int32", "uint32"), 8, "int32", _dot),
    load_b=device.LOAD_WORDS,
    multiply=device.MULTIPLY_BYTES,
    load_a=device.LOAD_HALVED,
    store=device.STORE_TRANSPOSED,
    apart=4,
)


def intrinsic(name: str, of: Fragments) -> str:
    """Register the intrinsic of this name (see the table above) and return its full name."""
    full = f"handglass.fragments.{name}.{of.name}"
    if TensorIntrin.get(full, allow_missing=True) is None:
        TensorIntrin.register(full, *MAKERS[name](of))
    return full


def matrix_number(buffer: tirx.Buffer, stride: Expr, shape: tuple[int, int]) -> Expr:
    """Index of the matrix in its buffer."""
    rows, columns = shape
    row, column = buffer.elem_offset // stride // rows, buffer.elem_offset % stride // columns
    return (row * (stride // columns) + column).astype("int32")


def _load(of: Fragments, use: str) -> Pair:
    stored, shape = of.type(use), of.shape(use)
    rows, columns = shape
    call = of.load_a if use == "a" else of.load_b
    assert call is not None, of.name

    @T.prim_func(s_tir=True)
    def description(memory: T.handle, held: T.handle) -> None:
        m = T.match_buffer(memory, shape, stored, offset_factor=1, scope=OPERANDS)
        h = T.match_buffer(held, shape, stored, offset_factor=1, scope="local")
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
        m = T.match_buffer(memory, shape, stored, offset_factor=1, scope=OPERANDS, strides=[s, 1])
        h = T.match_buffer(held, shape, stored, offset_factor=1, scope="local", strides=[t, 1])
        with T.sblock("root"):
            T.reads(m[0:rows, 0:columns])
            T.writes(h[0:rows, 0:columns])
            T.evaluate(
                T.cuda.func_call(
                    call.name,
                    h.data,
                    matrix_number(h, t, shape),
                    m.access_ptr("r"),
                    T.Cast("int32", s),
                    source_code=call.code,
                )
            )

    return description, implementation


def _fill(of: Fragments) -> Pair:
    sums = of.sums

    @T.prim_func(s_tir=True)
    def description(held: T.handle) -> None:
        h = T.match_buffer(held, (SIDE, SIDE), sums, offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads()
            T.writes(h[0:SIDE, 0:SIDE])
            for i, j in T.grid(T.int64(SIDE), T.int64(SIDE)):
                with T.sblock("fill"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    h[vi, vj] = tirx.const(0, sums)

    @T.prim_func(s_tir=True)
    def implementation(held: T.handle) -> None:
        t = T.int64()
        h = T.match_buffer(held, (SIDE, SIDE), sums, offset_factor=1, scope="local", strides=[t, 1])
        with T.sblock("root"):
            T.reads()
            T.writes(h[0:SIDE, 0:SIDE])
            T.evaluate(
                T.cuda.func_call(
                    device.FILL.name,
                    h.data,
                    matrix_number(h, t, (SIDE, SIDE)),
                    source_code=device.FILL.code,
                )
            )

    return description, implementation


def _multiply(of: Fragments) -> Pair:
    k, (stored, other), sums = of.inputs, of.stored, of.sums
    rows, columns = of.shape("b")

    @T.prim_func(s_tir=True)
    def description(left: T.handle, right: T.handle, total: T.handle) -> None:
        a = T.match_buffer(left, (SIDE, k), stored, offset_factor=1, scope="local")
        b = T.match_buffer(right, (rows, columns), other, offset_factor=1, scope="local")
        c = T.match_buffer(total, (SIDE, SIDE), sums, offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(c[0:SIDE, 0:SIDE], a[0:SIDE, 0:k], b[0:rows, 0:columns])
            T.writes(c[0:SIDE, 0:SIDE])
            for i, j, e in T.grid(T.int64(SIDE), T.int64(SIDE), T.int64(k)):
                with T.sblock("multiply"):
                    vi, vj, ve = T.axis.remap("SSR", [i, j, e])
                    c[vi, vj] = c[vi, vj] + of.term(a[vi, ve], of.right(b, ve, vj))

    @T.prim_func(s_tir=True)
    def implementation(left: T.handle, right: T.handle, total: T.handle) -> None:
        r, s, t = T.int64(), T.int64(), T.int64()
        a = T.match_buffer(left, (SIDE, k), stored, offset_factor=1, scope="local", strides=[r, 1])
        b = T.match_buffer(
            right, (rows, columns), other, offset_factor=1, scope="local", strides=[s, 1]
        )
        c = T.match_buffer(
            total, (SIDE, SIDE), sums, offset_factor=1, scope="local", strides=[t, 1]
        )
        with T.sblock("root"):
            T.reads(c[0:SIDE, 0:SIDE], a[0:SIDE, 0:k], b[0:rows, 0:columns])
            T.writes(c[0:SIDE, 0:SIDE])
            T.evaluate(
                T.cuda.func_call(
                    of.multiply.name,
                    c.data,
                    matrix_number(c, t, (SIDE, SIDE)),
                    a.data,
                    matrix_number(a, r, (SIDE, k)),
                    b.data,
                    matrix_number(b, s, (rows, columns)),
                    source_code=of.multiply.code,
                )
            )

    return description, implementation


def _store(of: Fragments) -> Pair:
    sums = of.sums

    @T.prim_func(s_tir=True)
    def description(held: T.handle, memory: T.handle) -> None:
        h = T.match_buffer(held, (SIDE, SIDE), sums, offset_factor=1, scope="local")
        m = T.match_buffer(memory, (SIDE, SIDE), sums, offset_factor=1, scope=RESULTS)
        with T.sblock("root"):
            T.reads(h[0:SIDE, 0:SIDE])
            T.writes(m[0:SIDE, 0:SIDE])
            for i, j in T.grid(T.int64(SIDE), T.int64(SIDE)):
                with T.sblock("store"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    m[vi, vj] = h[vi, vj]

    @T.prim_func(s_tir=True)
    def implementation(held: T.handle, memory: T.handle) -> None:
        s, t = T.int64(), T.int64()
        h = T.match_buffer(held, (SIDE, SIDE), sums, offset_factor=1, scope="local", strides=[t, 1])
        m = T.match_buffer(
            memory, (SIDE, SIDE), sums, offset_factor=1, scope=RESULTS, strides=[s, 1]
        )
        with T.sblock("root"):
            T.reads(h[0:SIDE, 0:SIDE])
            T.writes(m[0:SIDE, 0:SIDE])
            T.evaluate(
                T.cuda.func_call(
                    of.store.name,
                    h.data,
                    matrix_number(h, t, (SIDE, SIDE)),
                    m.access_ptr("w"),
                    T.Cast("int32", s),
                    source_code=of.store.code,
                )
            )

    return description, implementation


MAKERS: dict[str, Callable[[Fragments], Pair]] = {
    "load_a": lambda of: _load(of, "a"),
    "load_b": lambda of: _load(of, "b"),
    "fill": _fill,
    "multiply": _multiply,
    "store": _store,
}
