"""Indices of 32 bits in place of 64, but never data.

TVM's `ForceNarrowIndexToInt32` takes every 64-bit variable for an index, and refuses 64-bit arrays.
So a function that computes with 64-bit data stays as it is where the target has such arithmetic.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.ir import prim
from tvm.tirx import stmt as S
from tvm_ffi import WalkResult

WIDE = ("int64", "uint64")


def narrowed(mod: ir.IRModule, keep_wide: bool) -> ir.IRModule:
    """`mod` with narrow indices; `keep_wide`: functions with 64-bit data keep theirs."""
    functions = {var: _inline_wide(func) for var, func in mod.functions.items()}
    wide = {var: func for var, func in functions.items() if keep_wide and has_wide_data(func)}
    rest = {var: func for var, func in functions.items() if var not in wide}
    narrow = tirx.transform.ForceNarrowIndexToInt32()(ir.IRModule(rest)) if rest else {}
    return ir.IRModule({**wide, **(dict(narrow.functions.items()) if rest else {})})


def has_wide_data(func: tirx.PrimFunc) -> bool:
    """Whether a 64-bit integer of memory is anything but an index, or one is kept there."""
    return _has_wide_data(func.body)


def _has_wide_data(part: Any) -> bool:
    found: list[bool] = [False]

    def note(is_wide: bool) -> None:
        found[0] |= is_wide

    def load(one: ir.TensorLoad) -> WalkResult:
        note(_is_wide(one))
        return WalkResult.SKIP

    def store(one: S.BufferStore) -> WalkResult:
        note(_is_wide(one.value) or _has_wide_data(one.value))
        return WalkResult.SKIP

    tvm_ffi.structural_walk(
        part,
        [
            (ir.TensorLoad, load),
            (S.BufferStore, store),
            (S.AllocBuffer, lambda one: note(_is_wide(one.buffer))),
            (prim.Cast, lambda one: note(_is_wide(one) and _reads(one.value))),
        ],
        order="pre",
    )
    return found[0]


def _is_wide(expr: Any) -> bool:
    return str(expr.ty.dtype).partition("x")[0] in WIDE


def _reads(expr: ir.Expr) -> bool:
    found: list[ir.TensorLoad] = []
    tvm_ffi.structural_walk(expr, (ir.TensorLoad, found.append))
    return bool(found)


def _inline_wide(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """64-bit data in place of its names. TVM's lowering of a floor division makes such names."""

    def inline(let: prim.Let) -> ir.Expr:
        if not _is_wide(let.var) or not _reads(let.value):
            return let
        return tvm_ffi.structural_map(
            let.body, (ir.Var, lambda var: let.value if var.same_as(let.var) else var)
        )

    return func.with_body(tvm_ffi.structural_map(func.body, (prim.Let, inline)))
