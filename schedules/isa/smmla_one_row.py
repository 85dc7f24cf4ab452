"""Tensor intrinsic for one row of bytes in SMMLA's layout: SDOT takes eight inputs of two outputs,
and leaves each sum in two halves."""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from .dot_intrinsics import prefetch
from .integer_isa import CHUNK_STEPS
from .intrinsic_parts import extents_of, whole
from .register_tiles import LANES
from .smmla_instructions import Multiply

LINE = 64
"""Bytes of a cache line."""


def _match(
    row: tirx.Var, weights: tirx.Var, sums: tirx.Var
) -> tuple[tirx.Buffer, tirx.Buffer, tirx.Buffer]:
    strides = [tirx.Var("t", "int64"), 8, 1]
    panel = (CHUNK_STEPS, LANES, 8)
    return (
        T.match_buffer(row, (32,), "int8", offset_factor=1),
        T.match_buffer(weights, panel, "int8", offset_factor=1, strides=strides),
        T.match_buffer(sums, (2 * LANES,), "int32", offset_factor=1),
    )


def halves(multiply: Multiply, ahead: int) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """One row, 32 inputs, a panel: eight inputs, repeated twice, times weights of two outputs."""
    extents, vectors = extents_of(2 * LANES, CHUNK_STEPS, 4), LANES // 2

    @T.prim_func(s_tir=True)
    def description(row: T.handle, weights: T.handle, sums: T.handle) -> None:
        x, w, c = _match(row, weights, sums)
        with T.sblock("root"):
            T.reads(whole(c), whole(x), whole(w))
            T.writes(whole(c))
            for q0, v0, e0 in T.grid(*extents):
                with T.sblock("dot"):
                    q, v, e = T.axis.remap("SRR", [q0, v0, e0])
                    c[q] = c[q] + T.Cast("int32", x[v * 8 + q % 2 * 4 + e]) * T.Cast(
                        "int32", w[v, q // 2, q % 2 * 4 + e]
                    )

    def twice(x, v: int) -> Expr:
        eight = T.reinterpret(x.vload([v * 8], "int8x8"), dtype="int64")
        return T.reinterpret(T.broadcast(eight, 2), dtype="int8x16")

    def multiply_all(x, w, c, acc) -> None:
        for b in range(vectors):
            T.buffer_store(acc, c.vload([4 * b], "int32x4"), [T.ramp(4 * b, 1, 4)])
        for v in range(CHUNK_STEPS):
            for line in range(0, LANES, LINE // 8) if ahead else ():
                T.evaluate(prefetch(w, (v + ahead, line, 0)))
            for b in range(vectors):
                sums = acc.vload([4 * b], "int32x4")
                sums = multiply(sums, w.vload([v, 2 * b, 0], "int8x16"), twice(x, v))
                T.buffer_store(acc, sums, [T.ramp(4 * b, 1, 4)])
        for b in range(vectors):
            T.buffer_store(c, acc.vload([4 * b], "int32x4"), [T.ramp(4 * b, 1, 4)])

    @T.prim_func(s_tir=True)
    def implementation(row: T.handle, weights: T.handle, sums: T.handle) -> None:
        x, w, c = _match(row, weights, sums)
        with T.sblock("root"):
            T.reads(whole(c), whole(x), whole(w))
            T.writes(whole(c))
            acc = T.alloc_buffer((2 * LANES,), "int32", scope="local")
            multiply_all(x, w, c, acc)

    return description, implementation
