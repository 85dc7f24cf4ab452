"""Exported encoders on a software GPU, beside onnxruntime; part of `make test-vulkan`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import onnx_graphs as graphs
from onnx_models import Size, export, models
from test_onnx_graphs import expected
from thinned import only

from handglass.compiler.build_graph import compile_graph
from handglass.compiler.parity.ratios import snr_db
from handglass.compiler.verify import verify
from handglass.runtime.engine.graph import GraphSession

pytestmark = [pytest.mark.compiler, pytest.mark.slow, pytest.mark.vulkan]
TINY = Size(hidden=32, layers=1, heads=2, picture=16, patch=8)
LEAST = {"f32": 110.0, "f16": 50.0, "w8a8": 25.0}
"""In dB, against onnxruntime in float32."""
NAMES = ("ViT", "BERT")
Exported = Callable[[str], tuple[Path, dict[str, np.ndarray]]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    pytest.importorskip("transformers")
    import torch

    folder = tmp_path_factory.mktemp("exported")

    @cache
    def make(name: str) -> tuple[Path, dict[str, np.ndarray]]:
        torch.manual_seed(0)
        module, given = models(TINY)[name]()
        path = export(module, given, folder / f"{name}.onnx", is_new=False)
        arrays = {name: value.numpy() for name, value in given.items()}
        if "attention_mask" in arrays:
            arrays["attention_mask"][:, 50:] = 0
        return path, arrays

    return make


@pytest.mark.parametrize(
    ("name", "scheme"),
    only(
        [("ViT", "f32"), ("BERT", "f32"), ("ViT", "f16"), ("BERT", "f16")],
        [(name, scheme) for name in NAMES for scheme in LEAST],
    ),
)
def test_an_exported_model(name: str, scheme: str, exported: Exported, tmp_path: Path) -> None:
    path, arrays = exported(name)
    report = compile_graph(path, tmp_path / "bundle", target="vulkan", quantization=scheme)
    assert report.graph["recognised"]["attention"] == 1 and report.graph["share"] > 0.99
    (ours,) = GraphSession.load(tmp_path / "bundle").apply(arrays).values()
    assert snr_db(expected(path, arrays), ours) > LEAST[scheme]
    assert all(stage.ok for stage in verify(tmp_path / "bundle", path))


def test_whole_numbers_of_64_bits(tmp_path: Path) -> None:
    """Those that do not fit 32 become the nearest that does, which a table clips as on a CPU."""
    w = graphs.Writer()
    table = w.constant(np.arange(12).reshape(4, 3))
    w.node("Gather", table, "ids", axis=0, name="rows")
    w.node("Add", "ids", w.constant(1, "int64"), name="next")
    given = {"ids": ((5,), graphs.INT64)}
    model = w.model(given, outputs=("rows", "next"))
    model.graph.output[1].type.tensor_type.elem_type = graphs.INT64
    path = graphs.saved(model, tmp_path / "table.onnx")
    compile_graph(path, tmp_path / "bundle", target="vulkan")
    session = GraphSession.load(tmp_path / "bundle")
    arrays: dict[str, Any] = {"ids": np.array([0, 3, 4, 1 << 40, -1])}
    results = session.apply(arrays)
    assert results["rows"][:, 0].tolist() == [0, 9, 9, 9, 9]
    assert results["next"].dtype == np.int32 and results["next"][:3].tolist() == [1, 4, 5]


def test_softmax_and_convolution(tmp_path: Path) -> None:
    """What is not recognised has the default schedule of a GPU."""
    w = graphs.Writer()
    conv = w.node("Conv", "x", w.weight(8, 3, 3, 3), w.weight(8), kernel_shape=[3, 3])
    pooled = w.node("GlobalAveragePool", w.node("Relu", conv))
    w.node("Softmax", w.node("Flatten", pooled), axis=-1, name="output")
    path = graphs.saved(w.model({"x": ((1, 3, 9, 10), graphs.FLOAT)}), tmp_path / "conv.onnx")
    report = compile_graph(path, tmp_path / "bundle", target="vulkan")
    assert report.graph["recognised"] == {}
    x = np.random.default_rng(0).standard_normal((1, 3, 9, 10)).astype(np.float32)
    (ours,) = GraphSession.load(tmp_path / "bundle").apply({"x": x}).values()
    assert snr_db(expected(path, {"x": x}), ours) > LEAST["f32"]
