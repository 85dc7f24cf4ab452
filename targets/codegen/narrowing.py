"""Narrows 64-bit indices to 32 bits, but never data.

TVM's `ForceNarrowIndexToInt32` treats every 64-bit variable as an index and rejects 64-bit arrays.
If the target has 64-bit arithmetic, a function with 64-bit data is unchanged. If it has not, 64-bit
numbers can only be indices: 32-bit ids that Relax has widened. A function with a buffer that is
too large for 32-bit indices is unchanged.
"""

from __future__ import annotations

from math import prod
from typing import Any

import tvm
import tvm_ffi
from tvm import ir, tirx
from tvm.ir import prim
from tvm.tirx import stmt as S
from tvm_ffi import WalkResult

WIDE = ("int64", "uint64")
MOST_ELEMENTS = 2**31 - 1  # that a 32-bit index can address


def narrowed(mod: ir.IRModule, has_int64: bool) -> ir.IRModule:
    """`mod` with narrowed indices; with `has_int64`, functions with 64-bit data are unchanged."""
    functions = {var: _inline_wide(func) for var, func in mod.functions.items()}
    return ir.IRModule({var: _narrowed(func, has_int64) for var, func in functions.items()})


def _narrowed(func: tirx.PrimFunc, has_int64: bool) -> tirx.PrimFunc:
    if not _has_wide_number(func) or (has_int64 and has_wide_data(func)) or oversized(func):
        return func
    try:
        mod = tirx.transform.ForceNarrowIndexToInt32()(ir.IRModule({"main": func}))
    except tvm.error.InternalError:  # for example on casts of vectors in conditions
        return func
    return mod["main"]


def oversized(func: tirx.PrimFunc) -> tuple[str, int] | None:
    """A buffer of constant size with more than MOST_ELEMENTS, and how many it has."""
    found: list[Any] = []
    tvm_ffi.structural_walk(
        func.body, [(S.DeclBuffer, found.append), (S.AllocBuffer, found.append)]
    )
    for buffer in (declaration.buffer for declaration in found):
        extents = [int(n) for n in buffer.ty.shape if isinstance(n, prim.IntImm)]
        if (count := prod(extents)) > MOST_ELEMENTS:
            return buffer.name, count
    return None


def _has_wide_number(func: tirx.PrimFunc) -> bool:
    found: list[Any] = list(func.params)
    kinds = (ir.Var, prim.IntImm, prim.Cast, ir.TensorLoad)
    tvm_ffi.structural_walk(func.body, [(kind, found.append) for kind in kinds])
    return any(_is_wide(number) for number in found)


def has_wide_data(func: tirx.PrimFunc) -> bool:
    """Whether a 64-bit integer is loaded for use as data, or stored to memory."""
    return _has_wide_data(func.body)


def _has_wide_data(part: Any) -> bool:
    found: list[bool] = [False]

    def note(is_wide: bool) -> None:
        found[0] |= is_wide

    def load(one: ir.TensorLoad) -> WalkResult:
        note(_is_wide(one))
        return WalkResult.SKIP

    def store(one: S.BufferStore) -> WalkResult:
        note(_is_wide(one.value) or _is_wide(one.buffer) or _has_wide_data(one.value))
        return WalkResult.SKIP

    tvm_ffi.structural_walk(
        part,
        [
            (ir.TensorLoad, load),
            (S.BufferStore, store),
            (S.AllocBuffer, lambda one: note(_is_wide(one.buffer))),
            (prim.Cast, lambda one: note(_is_wide(one) and _is_data(one.value))),
        ],
        order="pre",
    )
    return found[0]


def _is_wide(expr: Any) -> bool:
    return str(getattr(expr.ty, "dtype", "")).partition("x")[0] in WIDE


def _is_data(expr: ir.Expr) -> bool:
    """Whether an expression is data. Vectors count as data: TVM's pass fails on them."""
    return _reads(expr) or "x" in str(expr.ty.dtype)


def _reads(expr: ir.Expr) -> bool:
    found: list[ir.TensorLoad] = []
    tvm_ffi.structural_walk(expr, (ir.TensorLoad, found.append))
    return bool(found)


def _inline_wide(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Inline let-bound 64-bit data, which TVM's lowering of a floor division creates."""

    def inline(let: prim.Let) -> ir.Expr:
        if not _is_wide(let.var) or not _reads(let.value):
            return let
        return tvm_ffi.structural_map(
            let.body, (ir.Var, lambda var: let.value if var.same_as(let.var) else var)
        )

    return func.with_body(tvm_ffi.structural_map(func.body, (prim.Let, inline)))
