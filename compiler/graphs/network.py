"""A recognised graph as a model: the layers of our families where operators are ours, the operators
of the importer elsewhere.

Values are rows (m, d) where they can be, because matmuls, norms and what follows them elementwise
are kernels of rows; a view of the same memory has the shape of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tvm
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.runtime.bundle.entries import FunctionEntry, TensorEntry, WorkEntry

from ..schemes.scheme import Scheme
from .graph import Graph, shape_of
from .operators import Operator, operator_for
from .recognition import Coverage, Match, Recognised
from .values import Values
from .weights import GraphWeights

ENCODE = "encode"
"""The function of the bundle: the inputs of the graph in their order, then the parameters."""


class GraphNetwork(nn.Module):
    """Exports `encode`."""

    def __init__(self, graph: Graph, recognised: Recognised, scheme: Scheme) -> None:
        super().__init__()
        self.graph, self.recognised, self.scheme = graph, recognised, scheme
        self.weights = GraphWeights()
        self.operators = nn.ModuleList([])
        self.constants = nn.ModuleList([])
        self._operators: dict[Any, Operator] = {}
        for number, (root, match) in enumerate(self._matches()):
            operator = operator_for(match, scheme, f"operators.{number}", self.weights)
            self.operators.append(operator)
            self._operators[root] = operator
        left = [v for v in graph.order if v in recognised.needed and v not in self._operators]
        self.values = Values(graph, left, self.constants, self.weights)

    def _matches(self) -> Iterable[tuple[Any, Match]]:
        """What is computed, in order."""
        needed, matches = self.recognised.needed, self.recognised.matches
        return ((var, matches[var]) for var in self.graph.order if var in needed and var in matches)

    def encode(self, *given: nn.Tensor) -> Any:
        values = self.values
        values.begin(given)
        for var in self.graph.order:
            if var in self._operators:
                self._operators[var].emit(values, var)
            elif var in self.recognised.needed:
                values.emit(var)
        results = [values.whole(var) for var in self.graph.outputs]
        return results[0] if len(results) == 1 else tuple(results)

    def export(self) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
        """One module with `encode`; parameters in the order of the `params` tuple."""
        inputs = self.graph.inputs
        names = [f"input_{number}" for number in range(len(inputs))]
        kinds = [spec.Tensor(list(shape_of(var)), str(var.ty.dtype)) for var in inputs]
        method = spec.MethodSpec(self.encode, names, kinds, "packed", "none")
        exported: tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]] = self.export_tvm(
            spec={ENCODE: method}
        )
        return exported

    def functions(self, inputs: Iterable[TensorEntry], outputs: Iterable[TensorEntry]) -> dict:
        """The signature as text, for the manifest."""
        given, results = ([f"{e.name} {e.shape} {e.dtype}" for e in es] for es in (inputs, outputs))
        return {ENCODE: FunctionEntry((*given, "params"), ", ".join(results))}

    def work(self, coverage: Coverage) -> dict[str, WorkEntry]:
        return {ENCODE: WorkEntry(flops=coverage.flops)}
