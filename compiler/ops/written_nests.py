"""Operators whose loop nests are written out, from inputs that may be views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.sym import Analyzer

from handglass.schedules.cpu.attention_shape import Limit
from handglass.schedules.loops import int64

Nest = Callable[[Sequence[tirx.Buffer], Sequence[tirx.Buffer]], None]
"""(inputs, outputs): emits the nest."""


def written(
    name: str,
    shapes: Sequence[Sequence[Expr | int]],
    dtypes: str | Sequence[str],
    inputs: Sequence[te.Tensor],
    nest: Nest,
    attrs: Mapping[str, Any],
) -> list[te.Tensor]:
    """The outputs of a nest, of these shapes; `dtypes`: one for all, or one for each."""

    def body(ins: Sequence[tirx.Buffer], outs: Sequence[tirx.Buffer]) -> tirx.Stmt:
        with IRBuilder() as builder:
            nest(ins, outs)
        return builder.get()

    each = [dtypes] * len(shapes) if isinstance(dtypes, str) else list(dtypes)
    made = te.extern(shapes, list(inputs), body, name=name, dtype=each, attrs=attrs)
    return [made] if isinstance(made, te.Tensor) else list(made)


def distinct(tensors: Sequence[te.Tensor]) -> tuple[te.Tensor, ...]:
    return tuple(dict.fromkeys(tensors))


def step_of(limit: Limit) -> Expr:
    """By how much the limit of a query exceeds that of the query before."""
    return Analyzer().simplify(limit(int64(1)) - limit(int64(0)))
