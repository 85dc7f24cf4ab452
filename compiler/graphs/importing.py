"""From an ONNX file to a Relax function whose constants are folded."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax import transform as X

from handglass.errors import InputError

from .graph import Graph, is_constant, name_of, shape_of
from .onnx_bounds import MAX_ELEMENTS
from .onnx_file import opset_of, read_onnx, where
from .onnx_folding import fold
from .onnx_sizes import Shapes

PLACED = ("gather_elements", "gather_nd", "scatter_elements", "scatter_nd")
"""Operators whose second operand says where."""
log = logging.getLogger(__name__)


def import_graph(path: Path, shapes: Shapes) -> tuple[relax.Function, Any]:
    """The function `main` of an ONNX file, and its graph with shapes folded.

    Raises InputError for a damaged file, and for an operator that the importer lacks.
    """
    model = read_onnx(path, shapes)
    fold(path, model)
    return imported(path, model), model.graph


def imported(path: Path, model: Any) -> relax.Function:
    """The function of a graph whose shapes are folded; `path` names it in errors."""
    _check_operators(path, model)
    mod = _converted(path, model)
    _check_sizes(path, mod["main"])
    mod = _clipped(mod)
    passes = [X.FoldConstant(), X.CanonicalizeBindings(), X.DeadCodeElimination(["main"])]
    function = tvm.transform.Sequential(passes)(mod)["main"]
    _check_outputs(path, model, function)
    return function


def _check_operators(path: Path, model: Any) -> None:
    from tvm.relax.frontend.onnx import onnx_frontend

    known = onnx_frontend._get_convert_map()  # the table has no public name
    for number, node in enumerate(model.graph.node):
        if node.op_type not in known:
            raise InputError(
                f"{path}: {where(node, number)}: this operator is unknown to the importer of TVM "
                f"{tvm.__version__}"
            )


def _converted(path: Path, model: Any) -> tvm.IRModule:
    """The importer's result. It prints the operator at which it fails, which the error names."""
    from tvm.relax.frontend.onnx import from_onnx

    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said):
            warnings.simplefilter("ignore")  # names that are not identifiers, and the checker's
            return from_onnx(model, opset=opset_of(model))
    except Exception as error:
        log.debug("importing %s", path, exc_info=True)
        operator = said.getvalue().partition(",")[0].removeprefix("Error converting operator ")
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{path}: the importer of TVM {tvm.__version__} fails at an operator "
            f"{operator[:80]!r}: {lines[-1][:300]}"
        ) from error


@relax.expr_functor.mutator
class _Clipping(relax.PyExprMutator):
    """Places that an input chooses, moved inside: compiled code reads and writes anywhere."""

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        name = name_of(call)
        if name == "take":
            args = [self.visit_expr(arg) for arg in call.args]
            return relax.op.take(*args, axis=call.attrs.axis, mode="clip")
        if name not in PLACED or is_constant(call.args[1]):
            return super().visit_call_(call)
        data, places, *rest = (self.visit_expr(arg) for arg in call.args)
        inside = self._inside(places, _limits(call))
        return relax.Call(call.op, [data, inside, *rest], call.attrs, call.ty_args)

    def _inside(self, places: relax.Expr, limits: np.ndarray) -> relax.Expr:
        """Below 0, a place counts from the end, as in ONNX."""
        kind, emit = str(places.ty.dtype), self.builder_.emit
        zero, size, last = (
            relax.const(np.asarray(values, kind), kind)
            for values in (0 * limits, limits, limits - 1)
        )
        turned = emit(relax.op.add(places, size))
        counted = emit(relax.op.where(emit(relax.op.less(places, zero)), turned, places))
        return emit(relax.op.minimum(emit(relax.op.maximum(counted, zero)), last))


def _limits(call: relax.Call) -> np.ndarray:
    """The size that each coordinate of a place must be below: one, or one for each column."""
    shape = shape_of(call.args[0])
    if name_of(call).endswith("_elements"):
        return np.array(shape[int(call.attrs.axis)])
    first = int(getattr(call.attrs, "batch_dims", 0))
    return np.array(shape[first : first + shape_of(call.args[1])[-1]])


def _clipped(mod: tvm.IRModule) -> tvm.IRModule:
    changed = _Clipping(mod)
    for var, func in mod.functions_items():
        if isinstance(func, relax.Function):
            changed.builder_.update_func(var, changed.visit_expr(func))
    return changed.builder_.get()


def _check_outputs(path: Path, model: Any, func: relax.Function) -> None:
    for output, result in zip(model.graph.output, Graph(func).outputs, strict=True):
        if not isinstance(result, relax.Var):
            raise InputError(f"{path}: the output {output.name[:80]!r} depends on no input")


def _check_sizes(path: Path, func: relax.Function) -> None:
    """Raise InputError unless every value has a shape of numbers within the bounds."""
    for block in func.body.blocks:
        for binding in block.bindings:
            for kind in _tensors(binding.var.ty):
                size = _size(kind)
                if size is None:
                    raise InputError(
                        f"{path}: the shape of a result of {operator_of(binding.value)} depends on "
                        "the values of an input; such a graph is not supported"
                    )
                if not 0 < size <= MAX_ELEMENTS:
                    raise InputError(
                        f"{path}: a result has {size} elements, but must have 1 to {MAX_ELEMENTS}"
                    )


def _tensors(kind: Any) -> list[Any]:
    if isinstance(kind, relax.TupleType):
        return [tensor for field in kind.fields for tensor in _tensors(field)]
    return [kind] if isinstance(kind, relax.TensorType) else []


def _size(kind: relax.TensorType) -> int | None:
    if not isinstance(kind.shape, relax.ShapeExpr):
        return None
    size = 1
    for extent in kind.shape.values:
        if not isinstance(extent, tvm.tirx.IntImm):
            return None
        size *= int(extent)
    return size


def operator_of(value: Any) -> str:
    """The name of a Relax operator, for messages."""
    return name_of(value) or "no operator"
