"""ONNX files from elsewhere are data: what is damaged, huge or outside the folder is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphs as graphs
import pytest

from handglass.compiler import build_graph
from handglass.compiler.build_graph import plan_graph
from handglass.errors import InputError

pytestmark = pytest.mark.compiler
X = {"x": ((2, 4), graphs.FLOAT)}


def linear() -> Any:
    w = graphs.Writer()
    w.node("Add", w.node("MatMul", "x", w.weight(4, 3)), w.weight(3), name="output")
    return w.model(X)


def refused(model: Any, folder: Path, text: str) -> None:
    path = graphs.saved(model, folder / "graph.onnx")
    with pytest.raises(InputError, match=text):
        plan_graph(path)


def with_node(*arguments: Any, **attributes: Any) -> Any:
    """A graph of one node."""
    w = graphs.Writer()
    w.node(*arguments, name="output", **attributes)
    return w.model(X)


def test_every_beginning_of_a_file_is_refused(tmp_path: Path) -> None:
    data = linear().SerializeToString()
    path = tmp_path / "graph.onnx"
    for length in range(0, len(data) - 1, 7):
        path.write_bytes(data[:length])
        with pytest.raises(InputError):
            plan_graph(path)


def test_changed_bytes_are_refused_or_harmless(tmp_path: Path) -> None:
    data = bytearray(linear().SerializeToString())
    path, random = tmp_path / "graph.onnx", np.random.default_rng(0)
    refusals = 0
    for _ in range(60):
        changed = bytearray(data)
        changed[random.integers(len(data))] = random.integers(256)
        path.write_bytes(changed)
        try:
            plan_graph(path)
        except InputError:
            refusals += 1
    assert refusals > 5


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.onnx: cannot be read: No such file"):
        plan_graph(tmp_path / "none.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError, match="is a folder, not a file"):
        plan_graph(tmp_path / "folder.onnx")


def test_a_cycle_names_its_node(tmp_path: Path) -> None:
    model = linear()
    model.graph.node[0].input[0] = "output"
    refused(model, tmp_path, r"node 0 'MatMul_0' \(MatMul\) reads 'output' before it is computed")


def test_a_value_that_is_computed_twice(tmp_path: Path) -> None:
    model = linear()
    model.graph.node[1].output[0] = model.graph.node[0].output[0]
    refused(model, tmp_path, r"node 1 'Add_1' \(Add\) computes 'v0' again")


def test_an_output_that_is_never_computed(tmp_path: Path) -> None:
    model = linear()
    model.graph.output[0].name = "nothing"
    refused(model, tmp_path, "the output 'nothing' is never computed")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: setattr(m.opset_import[0], "version", 99), "operator set 99, but must be from"),
        (lambda m: setattr(m.graph.node[0], "domain", "com.example"), "the domain 'com.example'"),
        (lambda m: setattr(m.graph.node[0], "op_type", "Loop"), r"\(Loop\) is control flow"),
        (lambda m: m.functions.add(name="f"), "has functions of its own"),
        (lambda m: m.graph.initializer[0].dims.append(1 << 40), "which is out of bounds"),
        (lambda m: m.graph.initializer[0].dims.extend([1] * 9), "which is out of bounds"),
        (lambda m: m.graph.initializer[0].dims.append(5), "has not the 60 elements of its shape"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 77), "has the unknown type 77"),
    ],
)
def test_what_is_out_of_bounds(change: Callable[[Any], None], text: str, tmp_path: Path) -> None:
    model = linear()
    change(model)
    refused(model, tmp_path, text)


def test_a_huge_result_is_not_computed(tmp_path: Path) -> None:
    w = graphs.Writer()
    sizes = w.constant([1 << 20, 1 << 20], "int64")
    w.node("Add", "x", w.node("ConstantOfShape", sizes), name="output")
    refused(w.model(X), tmp_path, r"\(ConstantOfShape\): 1099511627776 elements, but at most")


@pytest.mark.parametrize("kind", ["Add", "Gather"])
def test_a_result_that_outgrows_its_operands(kind: str, tmp_path: Path) -> None:
    """2^40 elements of two times 2^20."""
    w = graphs.Writer()
    many = w.constant(np.zeros((1, 1 << 20)))
    if kind == "Add":
        wide = w.node("Add", many, w.constant(np.zeros((1 << 20, 1))))
    else:
        wide = w.node("Gather", many, w.constant(np.zeros(1 << 20), "int64"), axis=0)
    w.node("Add", w.node("ReduceSum", wide), "x", name="output")
    refused(w.model(X), tmp_path, rf"\({kind}\): 1099511627776 elements, but at most")


@pytest.mark.parametrize("kind", ["Shape", "ConstantOfShape", "Range"])
def test_nodes_without_operands(kind: str, tmp_path: Path) -> None:
    w = graphs.Writer()
    w.node("Add", w.node(kind), "x", name="output")
    refused(w.model(X), tmp_path, f"\\({kind}\\) has unusable operands|fails at an operator")


def test_heads_that_do_not_fit(tmp_path: Path) -> None:
    """Softmax between products that are no attention: rows of another number."""
    w = graphs.Writer()
    q = w.heads("x", (1, 4, 2, 1), (0, 2, 1, 3))
    k = w.heads("x", (1, 1, 2, 4), (0, 2, 1, 3))
    v = w.heads("y", (1, 2, 4, 6), (0, 1, 2, 3))
    w.node("MatMul", w.node("Softmax", w.node("MatMul", q, k)), v, name="output")
    model = w.model(X | {"y": ((8, 6), graphs.FLOAT)})
    found = plan_graph(graphs.saved(model, tmp_path / "graph.onnx"))
    assert "attention" not in found["recognised"]


def test_a_huge_value_is_not_compiled(tmp_path: Path) -> None:
    w = graphs.Writer()
    wide = w.node("Expand", "x", w.constant([1 << 16, 1 << 16, 2, 4], "int64"))
    w.node("Relu", wide, name="output")
    refused(w.model(X), tmp_path, "a result has 34359738368 elements, but must have 1 to")


def test_results_without_elements_or_inputs(tmp_path: Path) -> None:
    w = graphs.Writer()
    w.node("MatMul", "x", w.constant(np.zeros((4, 0))), name="output")
    refused(w.model(X), tmp_path, "a result has 0 elements")
    w = graphs.Writer()
    w.node("Neg", w.weight(3), name="output")
    refused(w.model(X), tmp_path, "the output 'output' depends on no input")


def test_constant_places_beyond_a_table(tmp_path: Path) -> None:
    """Neither the evaluation of constants nor compiled code may read there."""
    w = graphs.Writer()
    row = w.node("Gather", w.weight(4, 4), w.constant([4], "int64"), axis=0)
    w.node("Add", "x", row, name="output")
    refused(w.model(X), tmp_path, r"\(Gather\): has indices beyond its operand of shape \[4, 4\]")
    w = graphs.Writer()
    w.node("GatherND", "x", w.constant([[0, -5]], "int64"), name="output")
    refused(w.model(X), tmp_path, r"\(GatherND\): has indices beyond")


def test_a_shape_that_depends_on_values(tmp_path: Path) -> None:
    refused(with_node("NonZero", "x"), tmp_path, "depends on the values of an input")


def test_an_importer_that_fails_is_not_our_fault(tmp_path: Path) -> None:
    model = with_node("Reshape", "x", "x")
    refused(model, tmp_path, "the importer of TVM .* fails at an operator 'Reshape'")


def test_what_tvm_cannot_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise RuntimeError("a long text\nno code for this operator")

    monkeypatch.setattr(build_graph, "lower", fails)
    path = graphs.saved(linear(), tmp_path / "graph.onnx")
    with pytest.raises(InputError, match="cannot compile this graph: no code for this operator"):
        build_graph.compile_graph(path, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def external(model: Any, **entries: Any) -> Any:
    """The model with its first weight, (4, 3), in another file."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"location": "../secret"}, "which is outside the folder of the file"),
        ({"location": "/etc/passwd"}, "which is outside the folder of the file"),
        ({"location": "link"}, "which is outside the folder of the file"),
        ({"location": ""}, "which is outside the folder of the file"),
        ({"location": "none"}, "cannot be read: No such file or directory; "),
        ({"location": "data", "length": 4000}, "has 4000 bytes from 0, but its shape takes 48"),
        ({"location": "data", "offset": -8}, "bytes from -8"),
        ({"location": "data", "offset": "x"}, "offset and length of its data must be numbers"),
        ({"location": "data", "offset": 60}, "ends before .* bytes 60 to 108"),
    ],
)
def test_weights_in_other_files(entries: dict[str, Any], text: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(100))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "data").write_bytes(bytes(100))
    (folder / "link").symlink_to(tmp_path / "secret")
    refused(external(linear(), **entries), folder, text)


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(100))
    path = graphs.saved(external(linear(), location="data", offset=52), tmp_path / "graph.onnx")
    assert plan_graph(path)["recognised"] == {"matmul": 1}
