"""Writes a random decoder for ONNX Runtime GenAI, of the shape of versus_shape.py.

The nodes are those that its model builder writes for a Llama with 4-bit weights: products in groups
of 32 with rows quantized to int8 (`accuracy_level` 4), grouped attention that appends to the cache,
norms fused with the residual. The builder itself needs a checkpoint and takes its memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GROUP = 32
MICROSOFT = "com.microsoft"
DATA = "model.onnx.data"
WEIGHTS = {"bits": 4, "block_size": GROUP, "accuracy_level": 4}
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


class Graph:
    """Nodes and weights; the weights go to a file beside the model."""

    def __init__(self, folder: Path) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)
        self._file = (folder / DATA).open("wb")

    def node(
        self, kind: str, inputs: list[str], outputs: str, domain: str = "", **more: Any
    ) -> str:
        """Add a node. Returns the first of its outputs, which are separated by spaces."""
        names = outputs.split(" ")
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **more))
        return names[0]

    def weight(self, name: str, array: np.ndarray) -> str:
        start = self._file.tell()
        self._file.write(array.tobytes())
        self._file.write(bytes(-self._file.tell() % 4096))  # aligned, so that it can be mapped
        tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        for key, value in (("location", DATA), ("offset", start), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self.weights.append(tensor)
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, name: str, *shape: int, mean: float = 0.0, kind: Any = np.float32) -> str:
        drawn = self._random.standard_normal(shape, np.float32) * 0.02 + mean
        return self.weight(name, drawn.astype(kind))

    def linear(self, name: str, x: str, outputs: int, inputs: int) -> str:
        """A product with 4-bit weights (outputs, inputs)."""
        groups = inputs // GROUP
        codes = self._random.integers(0, 256, (outputs, groups, GROUP // 2), np.uint8)
        scales = np.full((outputs, groups), inputs**-0.5 / 4.6, np.float32)
        given = [x, self.weight(f"{name}.codes", codes), self.weight(f"{name}.scales", scales)]
        sizes = {"K": inputs, "N": outputs}
        return self.node("MatMulNBits", given, f"{name}.out", MICROSOFT, **sizes, **WEIGHTS)

    def close(self) -> None:
        self._file.close()


def write_decoder(folder: Path, shape: dict[str, Any], context: int) -> None:
    """Write model.onnx, its weights, and genai_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = Graph(folder)
    outputs = decoder(graph, shape, context)
    graph.close()
    heads, width = shape["num_key_value_heads"], shape["head_dim"]
    layers = range(shape["num_hidden_layers"])
    past = ["batch", heads, "past", width]
    inputs = [tensor("input_ids", INT64, ["batch", "rows"])]
    inputs += [tensor("attention_mask", INT64, ["batch", "all"])]
    inputs += [tensor(f"past.{n}.{part}", FLOAT, past) for n in layers for part in ("key", "value")]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "decoder", inputs, outputs, graph.weights),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=10,
    )
    onnx.save(model, folder / "model.onnx")
    (folder / "genai_config.json").write_text(json.dumps(configuration(shape, context)), "utf-8")


def decoder(graph: Graph, shape: dict[str, Any], context: int) -> list[onnx.ValueInfoProto]:
    """Add all nodes. Returns the outputs."""
    hidden, vocab = shape["hidden_size"], shape["vocab_size"]
    table = graph.normal("embed", vocab, hidden, kind=np.float16)
    x = graph.node("Gather", [table, "input_ids"], "embed.half")
    skip = x = graph.node("Cast", [x], "embed.out", to=FLOAT)
    lengths(graph)
    angles(graph, shape["head_dim"] // 2, context, shape["rope_theta"])
    outputs = []
    for number in range(shape["num_hidden_layers"]):
        x, skip = layer(graph, number, x, skip, shape)
        for part in ("key", "value"):
            sizes = ["batch", shape["num_key_value_heads"], "all", shape["head_dim"]]
            outputs.append(tensor(f"present.{number}.{part}", FLOAT, sizes))
    x, _ = norm(graph, "final", x, skip, shape)
    last = graph.constant("last", np.array([-1], np.int64))
    x = graph.node("Gather", [x, last], "final.last", axis=1)  # logits of the last row only
    graph.node("Identity", [graph.linear("head", x, vocab, hidden)], "logits")
    return [tensor("logits", FLOAT, ["batch", 1, vocab]), *outputs]


def layer(graph: Graph, number: int, x: str, skip: str, shape: dict[str, Any]) -> tuple[str, str]:
    """Returns what the layer adds, and the sum before it."""
    name, hidden, inter = f"layer.{number}", shape["hidden_size"], shape["intermediate_size"]
    heads, kv, width = (
        shape[key] for key in ("num_attention_heads", "num_key_value_heads", "head_dim")
    )
    normed, skip = norm(graph, f"{name}.attention_norm", x, "" if number == 0 else skip, shape)
    qkv = graph.linear(f"{name}.qkv", normed, (heads + 2 * kv) * width, hidden)
    past = [f"past.{number}.key", f"past.{number}.value"]
    mixed = graph.node(
        "GroupQueryAttention",
        [qkv, "", "", *past, "lengths", "total", "cos", "sin"],
        f"{name}.mixed present.{number}.key present.{number}.value",
        MICROSOFT,
        num_heads=heads,
        kv_num_heads=kv,
        do_rotary=1,
        scale=width**-0.5,
    )
    attended = graph.linear(f"{name}.o", mixed, hidden, heads * width)
    normed, skip = norm(graph, f"{name}.mlp_norm", attended, skip, shape)
    gate = graph.linear(f"{name}.gate", normed, inter, hidden)
    up = graph.linear(f"{name}.up", normed, inter, hidden)
    turned = graph.node("Sigmoid", [gate], f"{name}.sigmoid")
    silu = graph.node("Mul", [gate, turned], f"{name}.silu")
    gated = graph.node("Mul", [silu, up], f"{name}.gated")
    return graph.linear(f"{name}.down", gated, hidden, inter), skip


def norm(graph: Graph, name: str, x: str, skip: str, shape: dict[str, Any]) -> tuple[str, str]:
    """RMS norm of x + skip. Returns it and the sum; without `skip` the sum is x."""
    weight = graph.normal(f"{name}.weight", shape["hidden_size"], mean=1.0)
    epsilon = {"epsilon": shape["rms_norm_eps"]}
    if not skip:
        kind = "SimplifiedLayerNormalization"
        return graph.node(kind, [x, weight], f"{name}.out", axis=-1, **epsilon), x
    outputs = f"{name}.out   {name}.sum"  # two outputs between them are left out
    kind = "SkipSimplifiedLayerNormalization"
    return graph.node(kind, [x, skip, weight], outputs, MICROSOFT, **epsilon), f"{name}.sum"


def lengths(graph: Graph) -> None:
    """What attention reads: the last position of each sequence, and the length of all."""
    axis = graph.constant("axis", np.array([1], np.int64))
    one = graph.constant("one", np.array([1], np.int64))
    count = graph.node("ReduceSum", ["attention_mask", axis], "mask.sum", keepdims=0)
    last = graph.node("Sub", [count, one], "mask.last")
    graph.node("Cast", [last], "lengths", to=INT32)
    sizes = graph.node("Shape", ["attention_mask"], "mask.shape")
    index = graph.constant("index", np.array(1, np.int64))
    total = graph.node("Gather", [sizes, index], "mask.total", axis=0)
    graph.node("Cast", [total], "total", to=INT32)


def angles(graph: Graph, half: int, context: int, theta: float) -> None:
    turns = np.outer(np.arange(context), theta ** -(np.arange(half) / half)).astype(np.float32)
    graph.weight("cos", np.cos(turns))
    graph.weight("sin", np.sin(turns))


def tensor(name: str, kind: int, sizes: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sizes)


def configuration(shape: dict[str, Any], context: int) -> dict[str, Any]:
    names = {"past_key_names": "past.%d.key", "past_value_names": "past.%d.value"}
    made = {"present_key_names": "present.%d.key", "present_value_names": "present.%d.value"}
    model = {
        "type": "llama",
        "context_length": context,
        "vocab_size": shape["vocab_size"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "decoder": {
            "filename": "model.onnx",
            "session_options": {"provider_options": []},
            "hidden_size": shape["hidden_size"],
            "head_size": shape["head_dim"],
            "num_attention_heads": shape["num_attention_heads"],
            "num_key_value_heads": shape["num_key_value_heads"],
            "num_hidden_layers": shape["num_hidden_layers"],
            "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **names},
            "outputs": {"logits": "logits", **made},
        },
    }
    return {"model": model, "search": {"max_length": context, "past_present_share_buffer": True}}
