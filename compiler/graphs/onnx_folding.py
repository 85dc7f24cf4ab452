"""Computes what an ONNX graph computes from shapes and constants alone.

Exporters write sizes as small programs (Shape, Gather, Concat, ConstantOfShape, ...) although all
inputs have fixed sizes. They are evaluated here by onnx's reference evaluator (numpy), operator by
operator, because the importer cannot import some of them; results have a bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from handglass.errors import InputError

from .onnx_file import import_onnx, where
from .onnx_places import check_places

FOLDED = frozenset(
    (
        "Add", "And", "Cast", "CastLike", "Ceil", "Concat", "Constant", "ConstantOfShape", "Cos",
        "Div", "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND",
        "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod",
        "Mul", "Neg", "Not", "Or", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceProd",
        "ReduceSum", "Reshape", "ScatterND", "Shape", "Sin", "Size", "Slice", "Split", "Sqrt",
        "Squeeze", "Sub", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
    )
)  # fmt: skip
"""Operators that are evaluated if all their inputs are known."""
GROWING = ("ConstantOfShape", "Expand", "Range", "Tile")
"""Operators whose results may be much larger than their inputs."""
COMBINING = frozenset(
    (
        "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
        "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Where",
    )
)  # fmt: skip
"""Operators of operands that are broadcast."""
MAX_FOLDED = 1 << 24
"""Elements of a result."""
LARGEST_INPUT = 1 << 20
"""Elements of an operand: beyond it are weights, and only their layout may change."""
SMALL = 1 << 10
"""Elements of a constant that may be a shape."""
LAYOUT = ("Constant", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def fold(path: Any, model: Any) -> None:
    """Replace nodes of `model` that depend on no input by constants, in place.

    With more constants more shapes can be inferred, whose use can be replaced again: in graphs with
    names in place of sizes, each layer reads the shape of the one before. Raises InputError for a
    node whose result exceeds the bound or cannot be computed.
    """
    while _fold_once(path, model):
        pass


def _fold_once(path: Any, model: Any) -> bool:
    """Whether a node was replaced. If none was, the places that are left have been checked."""
    onnx = import_onnx()
    to_array, graph = onnx.numpy_helper.to_array, model.graph
    known = {tensor.name: to_array(tensor) for tensor in graph.initializer}
    shapes = _shapes_of(model)
    kept = []
    for number, node in enumerate(graph.node):
        with _blamed_on(path, node, number):
            values = _value(model, node, known, shapes)
        if values is None:
            kept.append(node)
            continue
        known.update((name, v) for name, v in zip(node.output, values, strict=False) if name)
    if len(kept) == len(graph.node):
        for number, node in enumerate(kept):
            with _blamed_on(path, node, number):
                check_places(node, known, shapes)
        return False
    used = {name for node in kept for name in node.input} | {o.name for o in graph.output}
    present = {tensor.name for tensor in graph.initializer}
    added = [
        onnx.numpy_helper.from_array(np.asarray(known[name], order="C"), name)
        for name in sorted(used & known.keys() - present)
    ]
    left = [t for t in graph.initializer if t.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend([*left, *added])
    del graph.value_info[:]
    return True


@contextmanager
def _blamed_on(path: Any, node: Any, number: int) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {where(node, number)}: {error}") from error
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {where(node, number)} has unusable operands") from error


def _shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of all values that have one: inferred with what is known of shapes as data."""
    onnx = import_onnx()
    try:
        inferred = onnx.shape_inference.infer_shapes(_without_weights(model), data_prop=True)
    except Exception:  # noqa: BLE001  its errors have no common class; less is folded then
        inferred = model
    graph = inferred.graph
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            found[value.name] = tuple(d.dim_value for d in dims)
    return found


def _without_weights(model: Any) -> Any:
    """The graph with its weights as inputs: shape inference copies all that it gets."""
    onnx, graph = import_onnx(), model.graph
    small = [t for t in graph.initializer if math.prod(t.dims) <= SMALL]
    kept = {tensor.name for tensor in small}
    make = onnx.helper.make_tensor_value_info
    weights = [make(t.name, t.data_type, t.dims) for t in graph.initializer if t.name not in kept]
    inputs = [*(i for i in graph.input if i.name not in {w.name for w in weights}), *weights]
    bare = onnx.helper.make_graph(graph.node, graph.name or "graph", inputs, graph.output, small)
    return onnx.helper.make_model(
        bare, opset_imports=model.opset_import, ir_version=model.ir_version
    )


def _value(model: Any, node: Any, known: dict[str, np.ndarray], shapes: Any) -> Any:
    """The results of a node, or None if they depend on an input."""
    if node.op_type == "Shape" and node.input[0] in shapes:
        sizes = np.array(shapes[node.input[0]], np.int64)
        return [sizes[slice(*_ends(node, len(sizes)))]]
    if node.op_type not in FOLDED or any(name and name not in known for name in node.input):
        return None
    check_places(node, known, shapes)
    operands = [known[name] for name in node.input if name]
    if node.op_type not in LAYOUT and any(o.size > LARGEST_INPUT for o in operands):
        return None
    size = _size(node, operands, shapes)
    if size is not None and size > MAX_FOLDED:
        raise InputError(f"{size:.0f} elements, but at most {MAX_FOLDED} are supported")
    return None if size is None else _evaluate(model, node, known)


def _size(node: Any, operands: list[np.ndarray], shapes: Any) -> float | None:
    """At most so many elements has a result; None if that is not known."""
    if node.op_type in LAYOUT:
        return 0.0  # as many as its operand, which is within the bounds of weights
    if node.op_type in GROWING:
        return _grown(node, operands)
    if node.op_type in COMBINING:
        return _combined([operand.shape for operand in operands])
    sizes = [float(operand.size) for operand in operands]
    if not node.op_type.startswith("Gather"):
        return sum(sizes)
    if math.prod(sizes) <= MAX_FOLDED:
        return math.prod(sizes)
    inferred = [math.prod(shapes[name]) for name in node.output if name in shapes]
    return float(max(inferred)) if inferred else None


def _combined(shapes: Sequence[Sequence[int]]) -> float:
    """Elements of what arrays of these shapes become, element by element."""
    rank = max(map(len, shapes))
    aligned = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return math.prod(float(max(sizes)) for sizes in zip(*aligned, strict=True))


def _ends(node: Any, rank: int) -> tuple[int, int]:
    given = {a.name: a.i for a in node.attribute}
    return given.get("start", 0), given.get("end", rank)


def _grown(node: Any, operands: list[np.ndarray]) -> float:
    if node.op_type == "Range":
        start, limit, delta = (float(o) for o in operands)
        return abs((limit - start) / delta) if delta else math.inf
    asked = [int(n) for n in operands[-1].reshape(-1)]
    if node.op_type == "Expand":
        return _combined([operands[0].shape, asked])
    size = math.prod(map(float, asked))
    return size * operands[0].size if node.op_type == "Tile" else size


def _evaluate(model: Any, node: Any, known: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    from onnx.reference import ReferenceEvaluator

    onnx = import_onnx()
    names = [name for name in dict.fromkeys(node.input) if name]
    make = onnx.helper.make_tensor_value_info
    inputs = [make(n, onnx.helper.np_dtype_to_tensor_dtype(known[n].dtype), None) for n in names]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = onnx.helper.make_graph([node], "one", inputs, outputs)
    single = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(single).run(None, {name: known[name] for name in names})
    except Exception:  # noqa: BLE001  the evaluator has gaps, which the importer may not have
        return None
    return [np.asarray(result) for result in results]
