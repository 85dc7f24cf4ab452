"""Adds a fake target, schedule, quantization scheme and model as described in docs/adding.md."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_models import UNTIED, write_checkpoint
from tvm import te

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from handglass.compiler.build import compile_model
from handglass.compiler.models import FAMILIES
from handglass.compiler.models.model_config import ModelConfig
from handglass.compiler.schemes import quantize
from handglass.compiler.schemes.panels import panels
from handglass.compiler.schemes.plain import Plain
from handglass.compiler.schemes.scheme import Arrays
from handglass.compiler.verify import verify
from handglass.runtime.answer.model import Model
from handglass.schedules import CPU_RULES, Rule
from handglass.targets.table import known_targets

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


class Bytes(Plain):
    """8 bits per weight with a constant scale of 1/64."""

    def pack(self, rows: np.ndarray) -> Arrays:
        codes = np.clip(np.rint(rows * 64), -127, 127).astype(np.int8)
        return {"weight": panels(codes)}

    def unpack(self, parts: Arrays, n: int, k: int) -> np.ndarray:
        return super().unpack(parts, n, k) / 64

    def read(self, parts):  # type: ignore[no-untyped-def]
        (weight,) = parts
        return lambda b, k, lane: weight[b, k, lane].astype("float32") * (1 / 64)


def serial(sch, target, choices=None):  # type: ignore[no-untyped-def]
    """Takes gathers of positions, and leaves their loops unchanged."""
    return sch.get_child_blocks(sch.get_sblock("root"))[0] is not None and "positions" in {
        sch.get(block).name_hint for block in sch.get_child_blocks(sch.get_sblock("root"))
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("c"), UNTIED, "float32")


def test_a_target_a_schedule_a_scheme_and_a_model(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = (Rule("serial", serial), *CPU_RULES)
    device = replace(known_targets()["host"], name="toy-board", load_rules=lambda: rules)
    monkeypatch.setitem(known_targets(), "toy-board", device)
    monkeypatch.setitem(quantize.SCHEMES, "w8", Bytes("w8", "int8", "float32", floor_db=10.0))
    toy = replace(FAMILIES["minicpmv"], matches=is_toy, configure=read_toy)
    monkeypatch.setitem(FAMILIES, "toy", toy)
    config = (checkpoint / "config.json").read_text("utf-8")
    (checkpoint / "config.json").write_text(config.replace("MiniCPMV", "ToyV"), "utf-8")

    bundle = tmp_path / "bundle"
    report = compile_model(
        checkpoint, bundle, target="toy-board", quantization="w8", vision_quantization="f32"
    )

    assert ("serial", 2) in [row[1:] for row in report.schedules if row[0] == "positions"]
    model = Model.load(bundle)
    assert model.manifest.target.name == "toy-board"
    assert model.manifest.scheme == {"language": "w8", "vision": "f32"}
    assert len(model.chat([{"role": "user", "content": "hello"}], max_tokens=3).tokens) == 3
    stages = {stage.stage: stage.snr_db for stage in verify(bundle, checkpoint)}
    assert stages["vision"] > 80, "stored in float32"
    assert 10 < stages["logits"] < 60, "eight bits with a constant scale are lossy, but usable"


def is_toy(config: Mapping[str, Any]) -> bool:
    return config["architectures"] == ["ToyV"]


def read_toy(config: dict) -> ModelConfig:
    return ModelConfig.from_dict({**config, "architectures": ["MiniCPMV"]})


def test_the_new_scheme_reads_what_it_packs() -> None:
    scheme = Bytes("w8", "int8", "float32", floor_db=10.0)
    rows = np.random.default_rng(0).standard_normal((20, 7), np.float32) / 2
    packed = scheme.pack(rows)["weight"]
    (shape, dtype) = scheme.shapes(20, 7)["weight"]
    assert packed.shape == shape and packed.dtype == dtype
    weight = te.placeholder(shape, dtype, name="w")
    assert str(scheme.read([weight])(0, 0, 0).ty.dtype) == "float32"
