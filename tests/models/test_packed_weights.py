"""Checkpoints packed by AWQ and GPTQ: values, answers, and every error."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_weights import Method, pack, packed
from released import write_release
from safetensors.numpy import load_file, save_file
from test_text_only import KINDS, check_answer, write
from thinned import thinned

import handglass
from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.checkpoints.headers import Headers
from handglass.compiler.checkpoints.packing import packing_of
from handglass.compiler.plan import plan_model
from handglass.errors import InputError

METHODS = [
    Method("awq"),
    Method("awq", group_size=-1),
    *(Method("gptq", bits) for bits in (2, 3, 4, 8)),
    Method("gptq", 3, ordered=True, version=2),
    Method("gptq", 4, group_size=-1),
    Method("gptq", 4, group_size=40, ordered=True),
]
SHAPE = (64, 96)
QWEN2 = next(kind for kind in KINDS if kind.name == "Qwen2")


def folder_with(path: Path, method: Method, tensors: dict[str, np.ndarray]) -> Path:
    """A folder with nothing but one packed matrix `a`."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"quantization_config": method.config}))
    save_file(tensors, path / "model.safetensors")
    return path


def parts(method: Method, **changed: Any) -> dict[str, np.ndarray]:
    """The parts of a matrix `a`; a change of None removes one."""
    stored, _ = pack(SHAPE, method, np.random.default_rng(4))
    return {f"a.{k}": v for k, v in (stored | changed).items() if v is not None}


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_values(method: Method, tmp_path: Path) -> None:
    stored, values = pack(SHAPE, method, np.random.default_rng(7))
    tensors = {f"a.{name}": array for name, array in stored.items()}
    plain = np.ones((3, 2), np.float16)
    folder = folder_with(tmp_path, method, tensors | {"b.weight": plain})
    checkpoint = Checkpoint.open(folder)
    assert "a.qweight" not in checkpoint
    assert (checkpoint.read("a.weight", SHAPE) == values).all()
    for start, stop in ((0, 64), (3, 21), (31, 33), (63, 64), (5, 5)):
        assert (checkpoint.read_rows("a.weight", start, stop) == values[start:stop]).all()
    assert (checkpoint.read("b.weight", (3, 2)) == 1).all()
    checkpoint.finish()


def test_values_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handglass.compiler.checkpoints.packed_tensors.CHUNK", 96 * 7)
    for method in (Method("awq"), Method("gptq", 3)):
        stored, values = pack(SHAPE, method, np.random.default_rng(7))
        tensors = {f"a.{name}": array for name, array in stored.items()}
        checkpoint = Checkpoint.open(folder_with(tmp_path / method.name, method, tensors))
        assert (checkpoint.read("a.weight", SHAPE) == values).all()


def test_groups_without_a_list(tmp_path: Path) -> None:
    method = Method("gptq")
    stored, values = pack(SHAPE, method, np.random.default_rng(4))
    folder = folder_with(tmp_path, method, parts(method, g_idx=None))
    assert (Checkpoint.open(folder).read("a.weight", SHAPE) == values).all()
    assert "g_idx" in stored


def test_a_zero_point_of_zero_wraps_around(tmp_path: Path) -> None:
    """GPTQ stores it minus one, in so many bits."""
    method, zeros = Method("gptq", 4, 96), np.full((1, 8), -1, np.int32)
    checkpoint = Checkpoint.open(folder_with(tmp_path, method, parts(method, qzeros=zeros)))
    assert checkpoint.read("a.weight", SHAPE).min() == 0


@pytest.mark.parametrize("method", thinned(2, [METHODS[0], Method("gptq", 3, ordered=True)]))
def test_answer(method: Method, tmp_path: Path) -> None:
    """A Qwen2 from its folder, against transformers with the unpacked weights."""
    folder = tmp_path / "checkpoint"
    reference = write(folder, QWEN2)
    tensors = load_file(folder / "model.safetensors")
    stored, values = packed(tensors, method)
    if method.name == "gptq":  # as AutoGPTQ writes it, which the model does not have
        stored["model.layers.0.mlp.up_proj.bias"] = np.zeros(160, np.float16)
    save_file(stored, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = method.config
    (folder / "config.json").write_text(json.dumps(config))
    loaded = {name: torch.from_numpy(array) for name, array in (tensors | values).items()}
    reference.load_state_dict(loaded, strict=False)
    assert plan_model(folder).model.tensors_checked
    compile_model(folder, tmp_path / "bundle", quantization="f32")
    check_answer(reference, tmp_path / "bundle", QWEN2)


@pytest.mark.large
def test_a_release_with_plain_vision(tmp_path: Path) -> None:
    """MiniCPM-V 2.6, of which AWQ converts the language model only."""
    folder, method = tmp_path / "checkpoint", Method("awq", group_size=16)
    release = write_release(folder, "2.6")
    stored, values = packed(load_file(folder / "model.safetensors"), method)
    save_file(stored, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": method.config}))
    assert len(values) == 21
    release.model.load_state_dict(
        {name.removeprefix("llm."): torch.from_numpy(array) for name, array in values.items()},
        strict=False,
    )
    compile_model(folder, tmp_path / "bundle", quantization="f32", context=1024)
    release.check(handglass.load(tmp_path / "bundle"), "whole")


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quant_method": "bitsandbytes"}, "'bitsandbytes'"),
        ({"quant_method": "fp8"}, "'fp8'"),
        ({"quant_method": "compressed-tensors"}, "'compressed-tensors'"),
        ({"quant_method": None}, "None"),
        ({"quant_method": ["awq"]}, "['awq']"),
        ({"version": "gemv"}, "'gemv'"),
        ({"zero_point": False}, "zero_point is False"),
        ({"bits": 8}, "bits is 8"),
        ({"quant_method": "gptq", "bits": 5}, "bits is 5"),
        ({"quant_method": "gptq", "checkpoint_format": "marlin"}, "'marlin'"),
        ({"quant_method": "gptq", "is_marlin_format": True}, "is_marlin_format"),
        ({"quant_method": "gptq", "dynamic": {"+:.*": {"bits": 8}}}, "dynamic"),
        ({"quant_method": "gptq", "desc_act": 1}, "desc_act is 1"),
        ({"group_size": 0}, "group_size is 0"),
        ({"group_size": -2}, "group_size is -2"),
        ({"group_size": 1 << 40}, "group_size is 1099511627776"),
        ({"group_size": "128"}, "'128'"),
    ],
)
def test_other_methods_and_options(changes: dict[str, Any], reason: str) -> None:
    config = {"quantization_config": Method("awq").config | changes}
    with pytest.raises(InputError, match="config.json quantization_config") as error:
        packing_of(config)
    assert reason in str(error.value)


def test_not_an_object() -> None:
    with pytest.raises(InputError, match="expected an object"):
        packing_of({"quantization_config": 4})
    assert packing_of({"quantization_config": None}) is None


GPTQ, AWQ = Method("gptq", 4), Method("awq")
FAULTS: dict[str, tuple[Method, dict[str, Any]]] = {
    "a.scales is missing": (GPTQ, {"scales": None}),
    "a.qzeros is missing": (AWQ, {"qzeros": None}),
    "a.g_idx is missing": (Method("gptq", 4, ordered=True), {"g_idx": None}),
    "a.scales is (2, 64)": (GPTQ, {"scales": np.ones((2, 64), np.float16)}),
    "a.scales is int32": (GPTQ, {"scales": np.ones((3, 64), np.int32)}),
    "a.qzeros is (3, 7)": (AWQ, {"qzeros": np.ones((3, 7), np.int32)}),
    "a.qweight is int64": (GPTQ, {"qweight": np.ones((12, 64), np.int64)}),
    "a.qweight is int32 (12,)": (GPTQ, {"qweight": np.ones(12, np.int32)}),
    "a.qweight is int32 (0, 64)": (GPTQ, {"qweight": np.ones((0, 64), np.int32)}),
    "a.qweight is (10, 64)": (Method("gptq", 3), {"qweight": np.ones((10, 64), np.int32)}),
    "a.g_idx is (95,)": (GPTQ, {"g_idx": np.ones(95, np.int32)}),
    "a.weight is there twice": (GPTQ, {"weight": np.ones(SHAPE, np.float16)}),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_wrong_parts(reason: str, tmp_path: Path) -> None:
    method, changed = FAULTS[reason]
    folder = folder_with(tmp_path, method, parts(method, **changed))
    with pytest.raises(InputError) as error:
        Headers.open(folder)
    assert reason in str(error.value).replace("the tensor ", "")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("group", [3, -1, 1 << 30])
def test_a_group_that_does_not_exist(group: int, tmp_path: Path) -> None:
    groups = np.arange(96, dtype=np.int32) // 32
    groups[50] = group
    checkpoint = Checkpoint.open(folder_with(tmp_path, GPTQ, parts(GPTQ, g_idx=groups)))
    with pytest.raises(InputError, match=f"a.g_idx: .*{group}.* 3 "):
        checkpoint.read("a.weight", SHAPE)


def test_an_infinite_scale(tmp_path: Path) -> None:
    scales = np.full((3, 64), np.inf, np.float16)
    checkpoint = Checkpoint.open(folder_with(tmp_path, GPTQ, parts(GPTQ, scales=scales)))
    with pytest.raises(InputError, match=r"a\.weight: contains NaN or infinity"):
        checkpoint.read("a.weight", SHAPE)


def test_a_bias_beside_a_packed_weight(tmp_path: Path) -> None:
    """One of zeros has no effect; another one is not part of the model."""
    for value in (0, 1):
        bias = {"a.bias": np.full(64, value, np.float16)}
        folder = folder_with(tmp_path / str(value), GPTQ, parts(GPTQ) | bias)
        left = Checkpoint.open(folder).unused(["a.weight"])
        assert left == ["a.bias"] * value
