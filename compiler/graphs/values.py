"""The values of a graph while it is emitted: as rows, and in the shape of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend import nn

from ..models.layers import Source, view
from ..models.leaves import Stored
from .graph import Graph, array_of, is_constant, name_of, shape_of, size_of
from .weights import GraphWeights

STORED_FROM = 1024
"""Elements from which a constant is a parameter of the bundle, not a part of its library."""
ELEMENTWISE = frozenset(
    ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "tanh", "sigmoid")
) | frozenset(("erf", "exp", "sqrt", "rsqrt", "negative", "abs", "nn.relu", "nn.silu"))
"""Operators that may be computed on rows: as epilogues of the kernel before."""


class Values:
    """The variables that have been emitted, in the function that is being built."""

    def __init__(
        self,
        graph: Graph,
        left: Sequence[Any],
        constants: nn.ModuleList,
        weights: GraphWeights,
    ) -> None:
        """`left` are the variables that operators of the importer compute; `constants` receives
        their parameters."""
        self.graph, self._weights, self._constants = graph, weights, constants
        self._stored: dict[int, Stored] = {}
        for var in left:
            for constant in _constants_of(graph.values[var]):
                self._store(constant)
        self._rows: dict[Any, nn.Tensor | Source] = {}
        self._whole: dict[Any, Any] = {}

    def begin(self, given: Sequence[nn.Tensor]) -> None:
        """The inputs of a new function."""
        self._rows = {}
        self._whole = {v: t._expr for v, t in zip(self.graph.inputs, given, strict=True)}

    def source(self, var: Any) -> nn.Tensor | Source:
        """The rows (m, d), whose computation may be left to their reader."""
        if var not in self._rows:
            shape = shape_of(var)
            whole = nn.Tensor(_expr=self.expression(var))
            rows = (size_of(var) // shape[-1], shape[-1])
            self._rows[var] = whole if shape == rows else view(whole, *rows)
        return self._rows[var]

    def rows(self, var: Any) -> nn.Tensor:
        """The rows (m, d) in memory."""
        source = self.source(var)
        if isinstance(source, Source):
            source = self._rows[var] = source.computed()
        return source

    def put_rows(self, var: Any, rows: nn.Tensor | Source) -> None:
        """Set a value as rows; its other shape follows when somebody needs it."""
        self._rows[var] = rows

    def whole(self, var: Any) -> nn.Tensor:
        """The value in the shape of the graph."""
        return nn.Tensor(_expr=self.expression(var))

    def emit(self, var: Any) -> None:
        """An operator of the importer."""
        value = self.graph.values[var]
        if self._is_rowwise(var, value):
            args = [self._row_operand(arg, value) for arg in value.args]
            self._rows[var] = nn.Tensor(_expr=_emitted(relax.Call(value.op, args, value.attrs)))
        else:
            self._whole[var] = self.expression(value)

    def expression(self, expr: Any) -> Any:
        """An expression of the graph in the function that is being built."""
        if isinstance(expr, relax.Var):
            if expr not in self._whole:
                self._whole[expr] = view(self.rows(expr), *shape_of(expr))._expr
            return self._whole[expr]
        if is_constant(expr):
            kept = self._stored.get(hash(expr))
            return expr if kept is None else kept.value._expr
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.expression(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return _emitted(relax.TupleGetItem(self.expression(expr.tuple_value), expr.index))
        if not isinstance(expr, relax.Call):
            return expr
        return self._call(expr)

    def _call(self, call: relax.Call) -> Any:
        args = [self.expression(arg) for arg in call.args]
        return _emitted(relax.Call(call.op, args, call.attrs, call.ty_args))

    def _is_rowwise(self, var: Any, value: Any) -> bool:
        """Whether each row of the result depends on that row of the operands only, and one of them
        is available as rows."""
        if name_of(value) not in ELEMENTWISE or not shape_of(var):
            return False
        tensors = [arg for arg in value.args if not is_constant(arg)]
        return any(arg in self._rows for arg in tensors) and all(
            _is_number_or_row(arg, shape_of(var)[-1])
            if is_constant(arg)
            else shape_of(arg) == shape_of(var)
            for arg in value.args
        )

    def _row_operand(self, arg: Any, value: Any) -> Any:
        if not is_constant(arg):
            return self.rows(arg)._expr
        if len(shape_of(arg)) <= 1:
            return self.expression(arg)
        return relax.const(np.ascontiguousarray(array_of(arg).reshape(-1)))

    def _store(self, constant: Any) -> None:
        """Make a large constant a parameter."""
        if size_of(constant) < STORED_FROM or str(constant.ty.dtype) != "float32":
            return
        if hash(constant) not in self._stored:
            name = f"constants.{len(self._stored)}"
            self._weights.add(name, partial(array_of, constant), may_be_infinite=True)
            shape = shape_of(constant)
            kept = Stored(shape, lambda weights: weights.read(name, shape))
            self._constants.append(kept)
            self._stored[hash(constant)] = kept


def _constants_of(value: Any) -> list[Any]:
    if is_constant(value):
        return [value]
    parts = getattr(value, "args", None) or getattr(value, "fields", None) or ()
    return [constant for part in parts for constant in _constants_of(part)]


def _is_number_or_row(constant: Any, width: int) -> bool:
    shape = shape_of(constant)
    return size_of(constant) == 1 or (shape[-1] == width == size_of(constant))


def _emitted(expr: Any) -> Any:
    return relax.BlockBuilder.current().emit(expr)
