"""Reads an ONNX file as data: every number has a bound, and nothing outside its folder is read.

Raises InputError for whatever is damaged or out of bounds, before anything is computed. Weights may
be in files beside the graph ("external data"); they are read into the graph here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import DeviceError, InputError
from handglass.runtime.system.regular_file import open_regular, read_regular

from .onnx_bounds import elements
from .onnx_sizes import Shapes, fix_inputs

MAX_FILE = (2 << 30) - 1
"""Bytes of the graph file: the limit of its format."""
MAX_NODES = 50_000
MAX_WEIGHTS = 64 << 30
"""Bytes of all weights."""
OPSETS = 11, 24
"""The first and the last set of operators that are read."""
DOMAINS = ("", "ai.onnx")
CONTROL = ("If", "Loop", "Scan")


def read_onnx(path: Path, shapes: Shapes) -> Any:
    """The `onnx.ModelProto` with all weights inside, its inputs with fixed sizes.

    `shapes` are sizes of inputs, by name, for those that have names in place of numbers
    (onnx_sizes.py). Raises DeviceError if the package is missing.
    """
    onnx = import_onnx()
    try:
        data = read_regular(path, MAX_FILE)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:
        raise InputError(f"{path}: no ONNX file, or a damaged one") from error
    _check_graph(path, model)
    _read_weights(path, model)
    fix_inputs(path, model, shapes)
    return model


def import_onnx() -> Any:
    """The package `onnx`. Raises DeviceError if it is not installed."""
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.numpy_helper
    except ImportError as error:
        raise DeviceError(
            'reading an ONNX file needs the package onnx: pip install "handglass[onnx]"'
        ) from error
    return onnx


def opset_of(model: Any) -> int:
    """The version of the default operator set; 0: none is stated."""
    return max((o.version for o in model.opset_import if o.domain in DOMAINS), default=0)


def where(node: Any, number: int) -> str:
    """A node in a message."""
    return f"node {number} {node.name[:80]!r} ({node.op_type[:80]})"


def _check_graph(path: Path, model: Any) -> None:
    graph, (first, last) = model.graph, OPSETS
    opset = opset_of(model)
    if not graph.node or not graph.output:
        raise InputError(f"{path}: no ONNX file, or one without a graph")
    if not first <= opset <= last:
        raise InputError(f"{path}: operator set {opset}, but must be from {first} to {last}")
    if len(graph.node) > MAX_NODES:
        raise InputError(f"{path}: {len(graph.node)} nodes, but at most {MAX_NODES} are read")
    if model.functions:
        raise InputError(
            f"{path}: has functions of its own; inline them first (onnx.inliner) and save it again"
        )
    _check_order(path, graph)


def _check_order(path: Path, graph: Any) -> None:
    """Every value is computed once, before it is used: so there is no cycle."""
    known = {"", *(i.name for i in graph.input), *(t.name for t in graph.initializer)}
    for number, node in enumerate(graph.node):
        _check_node(path, node, number)
        if unknown := [name for name in node.input if name not in known]:
            raise InputError(
                f"{path}: {where(node, number)} reads {unknown[0][:80]!r} before it is computed: "
                "the graph has a cycle, or its nodes are not in order"
            )
        if again := [name for name in node.output if name and name in known]:
            raise InputError(f"{path}: {where(node, number)} computes {again[0][:80]!r} again")
        known.update(node.output)
    if missing := [o.name for o in graph.output if o.name not in known]:
        raise InputError(f"{path}: the output {missing[0][:80]!r} is never computed")


def _check_node(path: Path, node: Any, number: int) -> None:
    if node.op_type in CONTROL or any(a.HasField("g") or a.graphs for a in node.attribute):
        raise InputError(
            f"{path}: {where(node, number)} is control flow, which is not supported: export the "
            "model with fixed shapes, or simplify it"
        )
    if node.domain not in DOMAINS:
        raise InputError(
            f"{path}: {where(node, number)} belongs to the domain {node.domain[:80]!r}; only "
            "operators of ONNX itself are supported: export without optimizations of a runtime"
        )


def _read_weights(path: Path, model: Any) -> None:
    """Check the sizes of all constants and read those that are in other files."""
    total = 0
    for tensor in _tensors(model.graph):
        name = f"{path}: the constant {tensor.name[:80]!r}"
        count = elements(name, tensor.dims)
        total += count * _itemsize(name, tensor)
        if total > MAX_WEIGHTS:
            raise InputError(f"{path}: more than {MAX_WEIGHTS} bytes of weights")
        if tensor.data_location == tensor.EXTERNAL:
            _read_external(path, name, tensor, count * _itemsize(name, tensor))
        else:
            _check_content(name, tensor, count)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise InputError(f"the attribute {attribute.name[:80]!r} is sparse")
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
    if graph.sparse_initializer:
        raise InputError(f"the constant {graph.sparse_initializer[0].values.name[:80]!r} is sparse")


def _itemsize(name: str, tensor: Any) -> int:
    try:
        return int(
            np.dtype(import_onnx().helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{name} has the unknown type {tensor.data_type}") from error


def _check_content(name: str, tensor: Any, count: int) -> None:
    try:
        found = import_onnx().numpy_helper.to_array(tensor).size
    except Exception as error:
        raise InputError(f"{name} has not the {count} elements of its shape") from error
    if found != count:
        raise InputError(f"{name} has {found} elements, its shape has {count}")


def _read_external(path: Path, name: str, tensor: Any, size: int) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file, (start, length) = _beside(path, name, entries), _range(name, entries, size)
    try:
        with open_regular(file) as opened:
            opened.seek(start)
            data = opened.read(length)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}; {name} is in it") from error
    if len(data) != length:
        raise InputError(f"{file}: ends before {name}, bytes {start} to {start + length}")
    tensor.raw_data = data
    tensor.data_location = tensor.DEFAULT
    del tensor.external_data[:]


def _beside(path: Path, name: str, entries: Mapping[str, str]) -> Path:
    """The file of external data, which must be inside the folder of the graph."""
    location = entries.get("location", "")
    folder = path.resolve().parent
    try:
        file = (folder / location).resolve()
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {location[:80]!r} is no file name") from error
    if not location or Path(location).is_absolute() or folder not in file.parents:
        raise InputError(f"{name} is in {location[:80]!r}, which is outside the folder of the file")
    return file


def _range(name: str, entries: Mapping[str, str], size: int) -> tuple[int, int]:
    try:
        start, length = int(entries.get("offset", 0)), int(entries.get("length", size))
    except ValueError as error:
        raise InputError(f"{name}: offset and length of its data must be numbers") from error
    if start < 0 or start > 1 << 48 or length != size:
        raise InputError(f"{name}: has {length} bytes from {start}, but its shape takes {size}")
    return start, length
