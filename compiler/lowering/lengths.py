"""Sizes of a kernel's arguments at given lengths; a size may be an expression such as `n // 4`."""

from __future__ import annotations

from collections.abc import Mapping

from tvm import tirx
from tvm.ir import Expr
from tvm.sym import Analyzer
from tvm.tirx.analysis import undefined_vars


def evaluate(size: Expr, lengths: Mapping[str, int]) -> int | None:
    """The value of `size` at these lengths; None if one of its lengths is missing."""
    if isinstance(size, tirx.IntImm):
        return int(size)
    analyzer = Analyzer()
    for var in undefined_vars(size):
        if var.name not in lengths:
            return None
        analyzer.bind(var, tirx.IntImm(var.ty.dtype, lengths[var.name]), True)
    value = analyzer.simplify(size)
    return int(value) if isinstance(value, tirx.IntImm) else None


def names_of(size: Expr) -> list[str]:
    """Names of the lengths that a size depends on."""
    if isinstance(size, tirx.IntImm):
        return []
    return [var.name for var in undefined_vars(size)]
