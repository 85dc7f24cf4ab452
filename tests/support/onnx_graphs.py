"""Small ONNX graphs, written node by node in the forms that exporters give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx: Any = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


class Writer:
    """Adds nodes; every value is named by a number."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = name or f"v{len(self.nodes)}"
        made = helper.make_node(
            kind, inputs, [output], name=f"{kind}_{len(self.nodes)}", **attributes
        )
        self.nodes.append(made)
        return output

    def constant(self, values: Any, dtype: str = "float32") -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weight(self, *shape: int) -> str:
        """Random numbers that keep the size of rows."""
        return self.constant(self.random.standard_normal(shape) / np.sqrt(shape[0]))

    def linear(self, x: str, k: int, n: int) -> str:
        return self.node("Add", self.node("MatMul", x, self.weight(k, n)), self.weight(n))

    def norm(self, x: str, d: int, is_written_out: bool) -> str:
        weight, bias = self.constant(1 + self.random.standard_normal(d) / 8), self.weight(d)
        if not is_written_out:
            return self.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=1e-6)
        centred = self.node("Sub", x, self.node("ReduceMean", x, axes=[-1]))
        square = self.node("Pow", centred, self.constant(2.0))
        variance = self.node("ReduceMean", square, axes=[-1])
        root = self.node("Sqrt", self.node("Add", variance, self.constant(1e-6)))
        normed = self.node("Div", centred, root)
        return self.node("Add", self.node("Mul", normed, weight), bias)

    def gelu(self, x: str, kind: str) -> str:
        """`kind`: "divided" and "multiplied" are erf written out, "tanh" and "quick" the others."""
        if kind == "quick":
            inner = self.node("Sigmoid", self.node("Mul", x, self.constant(1.702)))
            return self.node("Mul", x, inner)
        if kind == "tanh":
            cube = self.node(
                "Mul", self.constant(0.044715), self.node("Pow", x, self.constant(3.0))
            )
            scaled = self.node("Mul", self.node("Add", x, cube), self.constant(np.sqrt(2 / np.pi)))
            one = self.node("Add", self.constant(1.0), self.node("Tanh", scaled))
            return self.node("Mul", self.node("Mul", x, self.constant(0.5)), one)
        if kind == "divided":
            inner = self.node("Div", x, self.constant(np.sqrt(2.0)))
        else:
            inner = self.node("Mul", x, self.constant(np.sqrt(0.5)))
        one = self.node("Add", self.node("Erf", inner), self.constant(1.0))
        if kind == "divided":
            return self.node("Mul", self.node("Mul", x, one), self.constant(0.5))
        return self.node("Mul", self.node("Mul", x, self.constant(0.5)), one)

    def heads(self, x: str, shape: Sequence[int], order: Sequence[int]) -> str:
        split = self.node("Reshape", x, self.constant(shape, "int64"))
        return self.node("Transpose", split, perm=order)

    def attention(
        self, x: str, sizes: tuple[int, int, int, int], mask: str = "", filled: str = ""
    ) -> str:
        """`sizes`: batch, positions, heads, columns of a head; `mask` is added to the scores, and
        only scores where `filled` is true are kept."""
        batch, n, h, d = sizes
        q, k, v = (self.linear(x, h * d, h * d) for _ in range(3))
        query, key = (
            self.heads(a, (*sizes[:2], h, d), o) for a, o in ((q, (0, 2, 1, 3)), (k, (0, 2, 3, 1)))
        )
        scores = self.node("Div", self.node("MatMul", query, key), self.constant(np.sqrt(d)))
        if mask:
            scores = self.node("Add", scores, mask)
        if filled:
            scores = self.node("Where", filled, scores, self.constant(-np.inf))
        weights = self.node("Softmax", scores, axis=-1)
        value = self.heads(v, (batch, n, h, d), (0, 2, 1, 3))
        mixed = self.node("Transpose", self.node("MatMul", weights, value), perm=(0, 2, 1, 3))
        return self.node("Reshape", mixed, self.constant((batch, n, h * d), "int64"))

    def rename(self, output: str) -> None:
        """Give the last value this name."""
        self.nodes[-1].output[0] = output

    def model(
        self,
        inputs: Mapping[str, tuple[Sequence[Any], int]],
        outputs: Sequence[str] = ("output",),
        opset: int = 17,
    ) -> Any:
        """The model; `inputs`: name -> (sizes, type)."""
        given = [helper.make_tensor_value_info(n, kind, s) for n, (s, kind) in inputs.items()]
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        for result in results:
            result.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, "graph", given, results, self.constants)
        imports = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
BATCH, N, HEADS, D = 2, 5, 2, 24
WIDTH = HEADS * D


def encoder(kind: str = "divided", is_written_out: bool = True, is_masked: bool = False) -> Any:
    """A layer of a transformer, of odd sizes and two sequences; or with a mask of whole numbers."""
    w = Writer()
    mask = ""
    if is_masked:
        turned = w.node("Unsqueeze", "mask", w.constant((1, 2), "int64"))
        blocked = w.node("Sub", w.constant(1.0), w.node("Cast", turned, to=FLOAT))
        mask = w.node("Mul", blocked, w.constant(-3.4e38))
    normed = w.norm("x", WIDTH, is_written_out)
    attended = w.attention(normed, (BATCH, N, HEADS, D), mask)
    x = w.node("Add", "x", w.linear(attended, WIDTH, WIDTH))
    hidden = w.gelu(w.linear(w.norm(x, WIDTH, is_written_out), WIDTH, 70), kind)
    w.node("Add", x, w.linear(hidden, 70, WIDTH), name="output")
    inputs = {"x": ((BATCH, N, WIDTH), FLOAT)}
    return w.model(inputs | ({"mask": ((BATCH, N), INT64)} if is_masked else {}))


def patches() -> Any:
    """Pictures as rows of patches after a class token; the number of pictures has a name."""
    w = Writer()
    conv = w.node(
        "Conv", "picture", w.weight(20, 3, 4, 4), w.weight(20), kernel_shape=[4, 4], strides=[4, 4]
    )
    shape = w.node("Shape", conv)
    parts = [w.node("Gather", shape, w.constant([i], "int64")) for i in (0, 1)]
    sizes = w.node("Concat", *parts, w.constant([-1], "int64"), axis=0)
    rows = w.node("Transpose", w.node("Reshape", conv, sizes), perm=(0, 2, 1))
    token = w.node(
        "Expand",
        w.weight(1, 1, 20),
        w.node("Concat", parts[0], w.constant([1, 1], "int64"), axis=0),
    )
    w.node("Concat", token, rows, axis=1, name="output")
    return w.model({"picture": (("batch", 3, 8, 12), FLOAT)})


def saved(model: Any, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path
