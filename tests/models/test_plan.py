"""Plans of compilations: from config.json alone, and against what is really compiled."""

import json
import re
import time
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from odd_models import GROUPED, UNTIED, write_checkpoint
from published import PARAMETERS, PUBLISHED, released_folder
from safetensors.numpy import load_file, save_file
from second_family import CONFIG as SECOND_CONFIG
from second_family import SECOND

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from thinned import only

from handglass.compiler import models
from handglass.compiler import plan as planning
from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.checkpoints.headers import Headers
from handglass.compiler.models.storage import choose_storage, storage_of
from handglass.compiler.packing.pack import entries
from handglass.compiler.plan import Plan, plan_model
from handglass.compiler.schemes.scheme import attention_to_all
from handglass.errors import InputError, UsageError
from handglass.runtime.bundle.reader import Bundle
from handglass.schedules.select import find_units
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.slow]
CHECKPOINT = Path(__file__).parents[2] / "examples" / "demo-checkpoint"


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def plan_of(tmp_path: Path) -> Any:
    """Plans a folder that has this config.json and nothing else."""
    return lambda config, **how: plan_model(write_config(tmp_path, config), **how)


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_parameters(plan_of: Any, name: str) -> None:
    plan: Plan = plan_of(PUBLISHED[name])
    assert plan.model.parameters == PARAMETERS[name]
    assert name.startswith(plan.model.name) or plan.picture is None
    assert not plan.model.tensors_checked and plan.model.tokenizer is None


@pytest.mark.parametrize(
    ("folder", "name"), [(v, f"MiniCPM-V {v}") for v in ("2.0", "2.5", "2.6", "4.6")]
)
def test_published_parameters_of_released_files(folder: str, name: str) -> None:
    model = plan_model(released_folder(folder)).model
    assert (model.name, model.parameters) == (name, PARAMETERS[name])


@pytest.mark.parametrize(
    ("name", "tiles", "tokens"),
    [
        ("MiniCPM-V with MiniCPM-1B", 1, 64),
        ("MiniCPM-V 4.5", 9, 9 * 64),
        ("MiniCPM-V 4.6", 9, 578),  # each tile has its own shape
    ],
)
def test_tiles_of_a_picture(plan_of: Any, name: str, tiles: int, tokens: int) -> None:
    picture = plan_of(PUBLISHED[name]).picture
    assert (picture.width, picture.height) == (1920, 1080)
    assert (picture.tiles, picture.tokens) == (tiles, tokens)


def test_a_plan_of_eight_billion_parameters_takes_neither_time_nor_memory(plan_of: Any) -> None:
    import tracemalloc

    tracemalloc.start()
    start = time.process_time()
    plan_of(PUBLISHED["MiniCPM-V 4.5"])
    seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 2.0  # 0.2 s without tracing
    assert peak < 100e6


@pytest.mark.large
def test_the_plan_is_what_is_compiled(demo_bundle: Path) -> None:
    plan = plan_model(CHECKPOINT)
    manifest = Bundle.open(demo_bundle).manifest
    sizes = [file.size for name, file in manifest.files.items() if name.startswith("params-")]
    assert plan.disk.bundle == sum(sizes)
    assert plan.memory.resident == manifest.resident_bytes
    assert plan.scheme == manifest.scheme
    assert (plan.context, plan.kv_cache) == (manifest.state.context, "f16")
    assert plan.model.tensors_checked and plan.model.tokenizer == "tokenizer.model"
    assert plan.model.parameters == count_parameters(CHECKPOINT)


def count_parameters(folder: Path) -> int:
    return sum(array.size for array in load_file(folder / "model.safetensors").values())


CONFIGS: dict[str, dict[str, Any]] = {
    "grouped": GROUPED,
    "untied": UNTIED,
    "4.6": PUBLISHED["MiniCPM-V 4.6"] | {"tie_word_embeddings": False},
}


@pytest.mark.parametrize(
    ("name", "target"),
    only(
        [("grouped", "x86-64-v3"), ("untied", "vulkan")],
        product(CONFIGS, ["x86-64-v3", "vulkan", "raspberry-pi-5"]),
    ),
)
def test_parameters_are_known_without_exporting(name: str, target: str) -> None:
    config = CONFIGS[name]
    device = find_target(target)
    family, parsed = models.read_config(config)
    units = find_units(tvm.target.Target(device.tvm))
    storage = choose_storage(parsed.language, units, "w4a8", None, 64, None)
    network = family.build(Headers(Path(), config, {}), parsed, storage)
    with tvm.target.Target(device.tvm):
        _, exported = network.export()
    assert entries(list(network.named_parameters())) == entries(exported)


def test_a_text_model_has_no_vision_scheme(plan_of: Any) -> None:
    config = PUBLISHED["MiniCPM5-1B"]
    assert plan_of(config).scheme == {"language": "w4a8"}
    with pytest.raises(UsageError, match="--vision-quantization f32: this model is text-only"):
        plan_of(config, vision_quantization="f32")


def test_attention_without_integers(plan_of: Any) -> None:
    """A bundle remembers it, and its kernels are found again."""
    scheme = plan_of(GROUPED, target="x86-64-v3", attention="f32").scheme
    assert scheme == {"language": "w4a8", "vision": "w7a8", "attention": "f32"}
    units = find_units(tvm.target.Target(find_target("x86-64-v3").tvm))
    state = SimpleNamespace(context=64, cache_dtype="float16")
    for given, kind in ((scheme, ""), ({"language": "w4a8", "vision": "w7a8"}, "words")):
        storage = storage_of(SimpleNamespace(scheme=given, state=state), units)  # type: ignore[arg-type]
        assert attention_to_all(storage.vision) == kind
        assert storage.names(True) == given


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"target": "x86-64-v3", "attention": "int8"}, "--attention int8: the only choice is f32"),
        ({"target": "x86-64-amx"}, "this model has no integers there on this target; omit it"),
        ({"target": "x86-64-v3", "vision_quantization": "f32"}, "has no integers there"),
    ],
)
def test_where_attention_has_no_integers(plan_of: Any, how: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        plan_of(GROUPED, **({"attention": "f32"} | how))


def test_another_family(plan_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.FAMILIES, "second", SECOND)
    plan: Plan = plan_of(SECOND_CONFIG, quantization="f32", context=64)
    assert plan.model.name == SECOND_CONFIG["architectures"][0]
    assert plan.picture is not None and plan.picture.tiles == 2


def test_tokenizer_files(tmp_path: Path) -> None:
    write_config(tmp_path, UNTIED)
    found = []
    for name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer.model"):
        (tmp_path / name).touch()  # not read
        found.append(plan_model(tmp_path).model.tokenizer)
    assert found == [None, "vocab.json", "tokenizer.json", "tokenizer.model"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", UNTIED, "float32")


def test_no_tensor_is_read(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even to compare a stored head with the embedding to which it is tied."""
    monkeypatch.setattr(Checkpoint, "_read", lambda *_: pytest.fail("a tensor was read"))
    write_config(checkpoint, UNTIED | {"tie_word_embeddings": True})
    plan = plan_model(checkpoint)
    assert plan.model.tensors_checked
    assert plan.model.parameters == count_parameters(checkpoint) - 401 * 128


def test_tensors_are_checked_as_by_compile(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["resampler.query"] = np.zeros((5, 64), np.float32)
    save_file(tensors, checkpoint / "model.safetensors")
    with pytest.raises(
        InputError, match="resampler.query is .5, 64.*config.json requires"
    ) as error:
        plan_model(checkpoint)
    with pytest.raises(InputError) as other:
        compile_model(checkpoint, checkpoint.parent / "bundle")
    assert str(error.value) == str(other.value)


def test_towers_that_are_left_out_are_named(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan_model(checkpoint)
    assert not caplog.records
    names = ("tts.head.weight", "apm.conv1.weight", "apm.conv2.weight", "vpm.x.position_ids")
    tensors = load_file(checkpoint / "model.safetensors")
    save_file(
        tensors | dict.fromkeys(names, np.zeros(2, np.float32)), checkpoint / "model.safetensors"
    )
    plan_model(checkpoint)
    (record,) = caplog.records
    assert record.getMessage() == "tensors that are left out: apm.* (2), tts.* (1)"


def test_a_missing_shard_is_an_error(checkpoint: Path) -> None:
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (checkpoint / "model.safetensors").rename(checkpoint / "one.safetensors")
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="one.safetensors"):
        plan_model(checkpoint)


def test_an_index_alone_is_no_tensor(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    index = {"weight_map": {"a": "one.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not plan_model(checkpoint).model.tensors_checked


def test_what_does_not_fit(checkpoint: Path, tmp_path: Path, monkeypatch: Any) -> None:
    small = {"base": "x86-64-v3", "name": "small", "memory_limit": 100_000}
    (tmp_path / "small.json").write_text(json.dumps(small))
    how: dict[str, Any] = {"target": str(tmp_path / "small.json"), "context": 64}
    plan = plan_model(checkpoint, **how)
    assert plan.memory.fits is False
    with pytest.raises(Exception, match="'small' has") as error:
        compile_model(checkpoint, tmp_path / "bundle", **how)
    assert plan.problems == (str(error.value),)
    assert "use a smaller model" in plan.problems[0] and "--" not in plan.problems[0]
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: type("Full", (), {"free": 9}))
    full = plan_model(checkpoint, output=tmp_path / "a" / "b", context=64)
    assert not full.disk.fits and full.disk.folder == str(tmp_path)
    assert "free some disk space" in full.problems[0]
    assert plan_model(checkpoint, context=64).problems == (), "no output was named"


@pytest.mark.parametrize("quantization", ["w4a8", "w8a8", "f32"])
def test_the_advice_makes_it_fit(checkpoint: Path, tmp_path: Path, quantization: str) -> None:
    """Each option on its own, of a model that lacks a third of its cache."""
    how: dict[str, Any] = {"quantization": quantization, "context": 448}
    memory = plan_model(checkpoint, **how).memory
    limit = memory.weights + memory.state * 2 // 3
    small = {"base": "x86-64-v3", "name": "small", "memory_limit": limit}
    (tmp_path / "small.json").write_text(json.dumps(small))
    (problem,) = plan_model(checkpoint, target=str(tmp_path / "small.json"), **how).problems
    advice = dict(re.findall(r"--([a-z-]+) (\w+)", problem))
    unrounded = {"vision-quantization": "w8a8"} if quantization == "f32" else {}
    fewer = {"quantization": "w4a8"} if quantization != "w4a8" else {}
    assert advice == fewer | unrounded | {"context": "256", "kv-cache": "int8"}
    for option, value in advice.items():
        other = {option.replace("-", "_"): int(value) if value.isdigit() else value}
        plan = plan_model(checkpoint, target=str(tmp_path / "small.json"), **how | other)
        assert plan.memory.fits or option.endswith("quantization")
        assert plan.memory.resident < memory.resident


def test_options_are_checked_as_by_compile(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="w3"):
        plan_model(checkpoint, quantization="w3")
    with pytest.raises(UsageError, match="1 to 512"):
        plan_model(checkpoint, context=513)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UsageError, match="not a bundle"):
        plan_model(checkpoint, output=tmp_path / "other")
