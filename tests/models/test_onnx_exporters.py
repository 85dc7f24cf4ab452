"""Ten small models of public architectures, exported by both exporters of torch: what is found,
and the results beside onnxruntime's. benchmarks/onnx_encoders.py has larger ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_encoders import Pair
from onnx_models import EXPORTERS, SIZES, export, models

from handglass.compiler.build_graph import compile_graph

pytestmark = [pytest.mark.compiler, pytest.mark.slow]
SHARES = {
    "ViT": 0.99,
    "DeiT": 0.99,
    "DINOv2": 0.99,
    "CLIP vision": 0.99,
    "SigLIP vision": 0.99,
    "BERT": 0.99,
    "DistilBERT": 0.99,
    "RoBERTa": 0.99,
    "ConvNeXt": 0.7,
    "ResNet": 0.0,
}
"""The least share of the operations that is recognised."""
SNR = 110.0
"""In dB, with weights in float32: measured 124 to 140."""


QUICK = ("BERT", "TorchScript")
CASES = [(name, exporter) for name in SHARES for exporter in EXPORTERS]


@pytest.mark.parametrize(
    ("name", "exporter"),
    [case if case == QUICK else pytest.param(*case, marks=pytest.mark.large) for case in CASES],
)
def test_an_exported_model(name: str, exporter: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript", "transformers"):
        pytest.importorskip(package)
    module, given = models(SIZES["small"])[name]()
    path = export(module, given, tmp_path / "model.onnx", EXPORTERS[exporter])
    np.savez(path.with_suffix(".npz"), **{name: value.numpy() for name, value in given.items()})
    found = compile_graph(path, tmp_path / "bundle").graph
    assert Pair.load(path, tmp_path / "bundle", threads=1).snr() > SNR
    assert found["share"] >= SHARES[name]
    assert bool(found["recognised"].get("attention")) == (SHARES[name] > 0.9)


def test_every_model_of_the_table_is_here() -> None:
    pytest.importorskip("transformers")
    assert models(SIZES["small"]).keys() == SHARES.keys()
