"""SMMLA and SDOT on vectors of 16 bytes, and the same from portable arithmetic.

Source: Arm ARM C7, SMMLA (vector) and SDOT (vector). SMMLA: (2 rows, 8 inputs) x (8 inputs, 2
outputs) -> 2 x 2 sums; both operands are row-major.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm.ir import Expr
from tvm.script import tirx as T

from .intrinsic_parts import shuffle

Multiply = Callable[[Expr, Expr, Expr], Expr]
"""(four sums, 16 bytes, 16 bytes) -> four sums."""


def _call(name: str, sums: Expr, a: Expr, b: Expr) -> Expr:
    number = T.llvm_lookup_intrinsic_id(name)
    return T.call_llvm_pure_intrin(number, sums, a, b, dtype="int32x4")


def smmla(sums: Expr, rows: Expr, outputs: Expr) -> Expr:
    return _call("llvm.aarch64.neon.smmla.v4i32.v16i8", sums, rows, outputs)


def sdot(sums: Expr, weights: Expr, x: Expr) -> Expr:
    return _call("llvm.aarch64.neon.sdot.v4i32.v16i8", sums, weights, x)


def _portable(count: int, left: list[int], right: list[int]) -> Multiply:
    """Portable sums[i] += dot(a[left[i] : left[i] + count], b[right[i] : right[i] + count])."""

    def multiply(sums: Expr, a: Expr, b: Expr) -> Expr:
        for e in range(count):
            pick = lambda v, at, e=e: T.Cast(  # noqa: E731
                "int32x4", shuffle([v], [n + e for n in at])
            )
            sums = sums + pick(a, left) * pick(b, right)
        return sums

    return multiply


PORTABLE_SMMLA = _portable(8, [0, 0, 8, 8], [0, 8, 0, 8])
PORTABLE_SDOT = _portable(4, [0, 4, 8, 12], [0, 4, 8, 12])
