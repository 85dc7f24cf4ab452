"""ONNX files whose inputs have names in place of sizes, by hand and from torch's exporters."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphs as graphs
import pytest
from onnx_models import EXPORTERS, Size, export, models
from test_onnx_graphs import expected
from thinned import only
from tolerance import FLOAT32

from handglass.compiler.build_graph import compile_graph, plan_graph
from handglass.compiler.graphs.onnx_sizes import parse_shapes
from handglass.errors import UsageError
from handglass.runtime.engine.graph import GraphSession

pytestmark = pytest.mark.compiler
TINY = Size(hidden=32, layers=1, heads=2, picture=16, patch=8)
TEXT = {"input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "sequence"}}
NAMES = {"ViT": {"pixel_values": {0: "batch"}}, "BERT": TEXT}
"""Model -> the sizes that may vary."""


def sizes(path: Path, **inputs: Any) -> Path:
    """A graph that adds up its inputs, whose sizes may be names, or unknown altogether."""
    w = graphs.Writer()
    total, *others = (w.node("ReduceSum", name, keepdims=0) for name in inputs)
    for other in others:
        total = w.node("Add", total, other)
    w.node("Mul", total, w.constant(2.0), name="output")
    return graphs.saved(w.model({n: (shape, graphs.FLOAT) for n, shape in inputs.items()}), path)


def test_a_batch_is_one_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = graphs.saved(graphs.patches(), tmp_path / "patches.onnx")
    assert plan_graph(path)["recognised"] == {"patches": 1}
    assert "the size 'batch' of its inputs is 1; --shape asks for another" in caplog.text
    caplog.clear()
    compile_graph(path, tmp_path / "bundle", shapes=["picture=3,3,8,12"], bundle_runtime=False)
    assert not caplog.text
    picture = np.random.default_rng(0).standard_normal((3, 3, 8, 12)).astype(np.float32)
    (ours,) = GraphSession.load(tmp_path / "bundle").apply({"picture": picture}).values()
    FLOAT32.check(ours, expected(path, {"picture": picture}))


QUESTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "one option for inputs of the same names": (
        {"ids": ("batch", "sequence"), "mask": ("batch", "sequence")},
        r"ids \(batch,sequence\); mask \(batch,sequence\); .* such as --shape ids=1,128$",
    ),
    "a picture": (
        {"x": ("n", "channels", "height", "width")},
        r"x \(n,channels,height,width\); .* such as --shape x=1,3,224,224$",
    ),
    "known sizes stay": ({"x": ("s7", 3, "h", 20)}, r"--shape x=1,3,224,20$"),
    "a batch that is no first size": ({"x": (4, "batch")}, r"x \(4,batch\); .* --shape x=4,128$"),
    "sizes without names": (
        {"x": (None, 4), "y": (None, 4)},
        r"x \(\?,4\); y \(\?,4\); .* such as --shape x=1,4 --shape y=1,4$",
    ),
    "one name is not enough": (
        {"x": ("a", "b"), "y": ("b", "c"), "z": ("c",)},
        r"--shape x=1,128 --shape y=128,128$",
    ),
    "no sizes": ({"x": None}, r"x \(\?\); .* such as --shape x=SIZE,\.\.\.$"),
    "a name for the shell": ({"x y": ("n",)}, r"such as --shape 'x y=1'$"),
}


@pytest.mark.parametrize("what", QUESTIONS)
def test_what_is_missing_is_asked_for(what: str, tmp_path: Path) -> None:
    inputs, message = QUESTIONS[what]
    with pytest.raises(UsageError, match=message):
        plan_graph(sizes(tmp_path / "x.onnx", **inputs))


def test_what_is_asked_for_is_enough(tmp_path: Path) -> None:
    """The options of the message."""
    path = sizes(tmp_path / "x.onnx", x=("a", "b"), y=("b", "c"), z=("c",), w=("batch", "a"))
    with pytest.raises(UsageError) as asked:
        plan_graph(path)
    words = str(asked.value).split(" such as ")[1].split()
    assert words[::2] == ["--shape"] * len(words[::2])
    plan_graph(path, words[1::2])


REFUSED = {
    "picture=2,4,8,12": "size 1 is 4, the file says 3",
    "picture=2,3,8": "3 sizes, the input has 4",
    "x=1": "--shape x: no such input; .* has picture",
    "picture": "must be NAME=SIZE",
    "picture=1,3,0,4": "must be NAME=SIZE",
}


@pytest.mark.parametrize("text", REFUSED)
def test_shapes_that_do_not_fit(text: str, tmp_path: Path) -> None:
    path = graphs.saved(graphs.patches(), tmp_path / "patches.onnx")
    with pytest.raises(UsageError, match=REFUSED[text]):
        plan_graph(path, [text])


def test_a_name_is_one_number(tmp_path: Path) -> None:
    path = sizes(tmp_path / "x.onnx", x=("n", 3), y=(3, "n"))
    with pytest.raises(UsageError, match="--shape y: size 1 is 5, but 'n' also is 4"):
        plan_graph(path, ["x=4,3", "y=3,5"])
    plan_graph(path, ["x=4,3", "y=3,4"])
    assert parse_shapes(["a=b=1,2"]) == {"a=b": (1, 2)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "exporter"), only([("BERT", "TorchScript")], product(NAMES, EXPORTERS))
)
def test_an_exported_model_of_any_size(name: str, exporter: str, tmp_path: Path) -> None:
    """What it computes from its sizes is folded, layer by layer: nothing is left that another
    export, of these sizes, does not have."""
    for package in ("onnxscript", "transformers"):
        pytest.importorskip(package)
    import torch

    torch.manual_seed(0)
    module, given = models(TINY)[name]()
    is_new = EXPORTERS[exporter]
    fixed = export(module, given, tmp_path / "fixed.onnx", is_new)
    free = export(module, given, tmp_path / "free.onnx", is_new, axes=NAMES[name])
    shapes = []
    if name == "BERT":
        with pytest.raises(UsageError, match=r"such as --shape input_ids=1,128$"):
            plan_graph(free)
        shapes = ["input_ids=1,64"]
    assert plan_graph(free, shapes) == plan_graph(fixed)
