"""Sizes of a kernel's arguments at given lengths: a size may be an expression, as `n // 4`."""

from __future__ import annotations

from collections.abc import Mapping

from tvm import tirx
from tvm.ir import Expr
from tvm.sym import Analyzer
from tvm.tirx.analysis import undefined_vars


def evaluate(size: Expr, lengths: Mapping[str, int]) -> int | None:
    """The size where these lengths hold; None where a length of it is not among them."""
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
    """The lengths that a size depends on."""
    if isinstance(size, tirx.IntImm):
        return []
    return [var.name for var in undefined_vars(size)]
