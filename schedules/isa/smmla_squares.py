"""Tensor intrinsics for the 2 x 2 squares in which SMMLA leaves its sums: scaling, and their
arrangement in rows."""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from .integer_isa import Codes
from .intrinsic_parts import extents_of, shuffle, whole


def squares_to_rows(rows: int, columns: int, dtype: str) -> str:
    """Name of the intrinsic that rearranges sums (rows/2, columns/2, 4) -> (rows/2, 2, columns)."""
    name = f"handglass.pair.rows.{rows}x{columns}.{dtype}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(name, *_in_rows(rows // 2, columns // 2, dtype))
    return name


def add_scaled(codes: Codes, rows: int, columns: int) -> str:
    """Name of the intrinsic that scales integer squares and adds them to float32 squares."""
    name = f"handglass.pair.scaled.{rows}x{columns}.{codes.start:x}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(name, *_scaled(codes, rows // 2, columns // 2))
    return name


def _in_rows(pairs: int, columns: int, dtype: str) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    extents = extents_of(pairs, 2, 2 * columns)

    @T.prim_func(s_tir=True)
    def description(squares: T.handle, rows: T.handle) -> None:
        a = T.match_buffer(squares, (pairs, columns, 4), dtype, offset_factor=1)
        c = T.match_buffer(rows, (pairs, 2, 2 * columns), dtype, offset_factor=1)
        with T.sblock("root"):
            T.reads(whole(a))
            T.writes(whole(c))
            for i0, r0, j0 in T.grid(*extents):
                with T.sblock("in_rows"):
                    i, r, j = T.axis.remap("SSS", [i0, r0, j0])
                    c[i, r, j] = a[i, j // 2, r * 2 + j % 2]

    def set_all(a, c) -> None:
        for i in range(pairs):
            for b in range(0, columns, 2):
                both = [a.vload([i, b + n, 0], f"{dtype}x4") for n in (0, 1)]
                for r, places in enumerate(([0, 1, 4, 5], [2, 3, 6, 7])):
                    T.buffer_store(c, shuffle(both, places), [i, r, T.ramp(2 * b, 1, 4)])

    @T.prim_func(s_tir=True)
    def implementation(squares: T.handle, rows: T.handle) -> None:
        a = T.match_buffer(squares, (pairs, columns, 4), dtype, offset_factor=1)
        c = T.match_buffer(rows, (pairs, 2, 2 * columns), dtype, offset_factor=1)
        with T.sblock("root"):
            T.reads(whole(a))
            T.writes(whole(c))
            set_all(a, c)

    return description, implementation


def _scaled(codes: Codes, pairs: int, columns: int) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """float32 squares += integer squares * (scales of the rows * scales of the outputs)."""
    extents, f32 = extents_of(pairs, columns, 4), "float32"

    @T.prim_func(s_tir=True)
    def description(sums: T.handle, rows: T.handle, outputs: T.handle, total: T.handle) -> None:
        a = T.match_buffer(sums, (pairs, columns, 4), "int32", offset_factor=1)
        x = T.match_buffer(rows, (pairs, 4), f32, offset_factor=1)
        w = T.match_buffer(outputs, (2 * columns,), "float16", offset_factor=1)
        c = T.match_buffer(total, (pairs, columns, 4), f32, offset_factor=1)
        with T.sblock("root"):
            T.reads(whole(c), whole(a), whole(x), whole(w))
            T.writes(whole(c))
            for i0, b0, q0 in T.grid(*extents):
                with T.sblock("scaled"):
                    i, b, q = T.axis.remap("SSS", [i0, b0, q0])
                    c[i, b, q] = c[i, b, q] + codes.sum_as_float(a[i, b, q]) * (
                        x[i, q] * T.Cast(f32, w[b * 2 + q % 2])
                    )

    def scale(w, b: int) -> Expr:
        """Scales of outputs 2b and 2b + 1, for both rows."""
        four = T.Cast("float32x4", w.vload([b // 2 * 4], "float16x4"))
        return shuffle([four], [0, 1, 0, 1] if b % 2 == 0 else [2, 3, 2, 3])

    def add_all(a, x, w, c) -> None:
        for i in range(pairs):
            for b in range(columns):
                factor = x.vload([i, 0], "float32x4") * scale(w, b)
                value = codes.sum_as_float(a.vload([i, b, 0], "int32x4"), 4) * factor
                T.buffer_store(c, c.vload([i, b, 0], "float32x4") + value, [i, b, T.ramp(0, 1, 4)])

    @T.prim_func(s_tir=True)
    def implementation(sums: T.handle, rows: T.handle, outputs: T.handle, total: T.handle) -> None:
        a = T.match_buffer(sums, (pairs, columns, 4), "int32", offset_factor=1)
        x = T.match_buffer(rows, (pairs, 4), f32, offset_factor=1)
        w = T.match_buffer(outputs, (2 * columns,), "float16", offset_factor=1)
        c = T.match_buffer(total, (pairs, columns, 4), f32, offset_factor=1)
        with T.sblock("root"):
            T.reads(whole(c), whole(a), whole(x), whole(w))
            T.writes(whole(c))
            add_all(a, x, w, c)

    return description, implementation
