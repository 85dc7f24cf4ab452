"""An imported function as data: its values in order, who uses them, and what they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax import analysis
from tvm.relax.dpl import DFPattern


@dataclass(frozen=True)
class Graph:
    """A Relax function of one dataflow block, in which all sizes are numbers."""

    func: relax.Function

    @cached_property
    def values(self) -> Mapping[relax.Var, relax.Expr]:
        """Variable -> what it is bound to; this is what patterns follow."""
        return analysis.get_var2val(self.func)

    @cached_property
    def order(self) -> list[relax.Var]:
        """The variables in the order of computation."""
        return [b.var for block in self.func.body.blocks for b in block.bindings]

    @cached_property
    def users(self) -> Mapping[relax.Var, list[relax.Var]]:
        """Variable -> those that are computed from it; an output counts as a user of its own."""
        found: dict[relax.Var, list[relax.Var]] = {var: [] for var in self.func.params}
        for var in self.order:
            found[var] = []
            for operand in operands(self.values[var]):
                found[operand].append(var)
        for output in self.outputs:
            found[output].append(output)  # a variable: importing.py refuses constants
        return found

    @property
    def inputs(self) -> list[relax.Var]:
        return list(self.func.params)

    @cached_property
    def outputs(self) -> list[relax.Var]:
        """The results, each a variable that is computed or an input."""
        body = self.func.body.body
        bound = self.values.get(body, body)
        results = list(bound.fields) if isinstance(bound, relax.Tuple) else [body]
        return [self.resolved(result) for result in results]

    def resolved(self, var: Any) -> Any:
        """The variable that another one is only a name for."""
        while isinstance(bound := self.values.get(var), relax.Var):
            var = bound
        return var

    @cached_property
    def _variables(self) -> Mapping[int, relax.Var]:
        return {hash(value): var for var, value in self.values.items()}

    def match(self, pattern: DFPattern, var: relax.Var) -> dict[DFPattern, Any] | None:
        """Part of the pattern -> the variable or constant that it stands for; None: no match."""
        found = pattern.extract_matched_expr(self.values[var], self.values)
        if found is None:
            return None
        return {part: self._variables.get(hash(expr), expr) for part, expr in found.items()}

    def value(self, expr: Any) -> Any:
        """What a variable is bound to; other expressions as they are."""
        return self.values.get(expr, expr) if isinstance(expr, relax.Var) else expr


def operands(value: Any) -> Iterator[relax.Var]:
    """The variables that a value is computed from."""
    if isinstance(value, relax.Var):
        yield value
    elif isinstance(value, relax.Call):
        for arg in value.args:
            yield from operands(arg)
    elif isinstance(value, relax.Tuple):
        for field in value.fields:
            yield from operands(field)
    elif isinstance(value, relax.TupleGetItem):
        yield from operands(value.tuple_value)


def shape_of(expr: Any) -> tuple[int, ...]:
    """The sizes of a tensor."""
    return tuple(int(n) for n in expr.ty.shape.values)


def size_of(expr: Any) -> int:
    return math.prod(shape_of(expr))


def name_of(value: Any) -> str:
    """The name of the operator of a call, without its prefix; "" for anything else."""
    is_operator = isinstance(value, relax.Call) and hasattr(value.op, "name")
    return str(value.op.name).removeprefix("relax.") if is_operator else ""


def is_float(expr: Any) -> bool:
    """Whether it is a tensor of float32, the type of our operators."""
    return isinstance(expr.ty, relax.TensorType) and str(expr.ty.dtype) == "float32"


def is_constant(expr: Any) -> bool:
    return isinstance(expr, GenericConst)


def array_of(constant: Any) -> np.ndarray:
    """The values of a constant, without a copy."""
    return np.asarray(constant.value.numpy())


def scalar_of(expr: Any) -> float | None:
    """The value of a constant with one element; None for anything else."""
    if not is_constant(expr) or size_of(expr) != 1:
        return None
    return float(array_of(expr).reshape(()))


def is_close(found: float | None, wanted: float) -> bool:
    """Whether a constant of a formula is the one that it should be, rounded to float32."""
    return found is not None and math.isclose(found, wanted, rel_tol=1e-5, abs_tol=1e-12)


def is_last_axis(axes: Sequence[Any] | None, rank: int) -> bool:
    return axes is not None and [int(axis) % rank for axis in axes] == [rank - 1]
