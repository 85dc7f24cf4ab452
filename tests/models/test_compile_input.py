"""Bad checkpoints and options: each raises one clear error and leaves no partial bundle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_models import UNTIED, write_checkpoint
from published import PUBLISHED
from random_release import CHATML
from safetensors.numpy import load_file, save_file

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.checkpoints.fields import Fields
from handglass.compiler.checkpoints.template_file import TemplateFile
from handglass.compiler.models import find_family, read_config
from handglass.compiler.models.matching import build_for
from handglass.compiler.models.storage import choose_storage
from handglass.compiler.models.templates import minicpm
from handglass.compiler.packing.describe import (
    find_tokenizer,
    stop_ids,
    with_sampling,
    with_stops,
)
from handglass.errors import DeviceError, HandglassError, InputError, UsageError
from handglass.schedules.select import ANY_CPU

pytestmark = pytest.mark.compiler
Damage = Callable[[Path], Any]


def change_config(**changes: Any) -> Damage:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def change_tensors(change: Callable[[dict[str, np.ndarray]], Any]) -> Damage:
    def rewrite(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return rewrite


def transpose(tensors: dict[str, np.ndarray]) -> None:
    name = "vpm.encoder.layers.1.mlp.fc1.weight"
    tensors[name] = np.ascontiguousarray(tensors[name].T)


def spoil(tensors: dict[str, np.ndarray]) -> None:
    tensors["llm.model.layers.0.mlp.up_proj.weight"][3, 4] = np.nan


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


DAMAGES: list[tuple[Damage, type[HandglassError], str]] = [
    (change_config(architectures=["GPT"]), InputError, "'GPT'"),
    (change_config(num_hidden_layers=3), InputError, "missing: .*layers.2"),
    (change_config(num_hidden_layers=1), InputError, "9 tensors"),
    (change_config(num_hidden_layers=1000), InputError, "8982 tensors .*missing"),
    (change_config(query_num=1 << 24), InputError, "resampler.query .*16777216"),
    (change_config(vocab_size=402), InputError, "embed_tokens.weight .*402"),
    (change_tensors(lambda t: t.pop("resampler.query")), InputError, "missing: resampler.query"),
    (
        change_tensors(lambda t: t.update({"resampler.pos_embed": np.zeros((5, 128), "f4")})),
        InputError,
        "1 tensor .*: resampler.pos_embed",
    ),
    (change_tensors(transpose), InputError, r"fc1.weight .*\(48, 100\).*\(100, 48\)"),
    (change_config(version="2.6"), InputError, "missing: .*q_proj.bias"),
    (change_config(version="9"), InputError, "MiniCPM-V 9 is not supported"),
    (change_tensors(spoil), InputError, "up_proj.weight: .*NaN"),
    (truncate, InputError, "model.safetensors"),
    (lambda folder: (folder / "tokenizer.model").unlink(), InputError, "tokenizer.model"),
]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", UNTIED, "float32")


def compile_fails(checkpoint: Path, error: type[HandglassError], message: str, **how: Any) -> None:
    """Compilation raises `error` and leaves no file or folder next to the checkpoint."""
    before = sorted(checkpoint.parent.iterdir())
    with pytest.raises(error, match=message):
        compile_model(checkpoint, checkpoint.parent / "bundle", context=64, **how)
    assert sorted(checkpoint.parent.iterdir()) == before


@pytest.mark.parametrize(("damage", "error", "message"), DAMAGES)
def test_bad_checkpoint(
    checkpoint: Path, damage: Damage, error: type[HandglassError], message: str
) -> None:
    damage(checkpoint)
    compile_fails(checkpoint, error, message)


@pytest.mark.parametrize("name", ["tokenizer.model", "generation_config.json"])
def test_small_files_are_read_before_anything_is_compiled(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_bytes(b"[")
    phases: list[Any] = []
    compile_fails(checkpoint, InputError, name, progress=lambda *step: phases.append(step))
    assert phases == []


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"quantization": "w3"}, "'w3'.* f32, f16, bf16, w4"),
        ({"vision_quantization": "w3"}, "'w3'"),
        ({"kv_cache": "int4"}, "'int4'.* f32, f16, int8"),
        ({"target": "toaster"}, "toaster"),
    ],
)
def test_bad_choice(checkpoint: Path, how: dict[str, str], message: str) -> None:
    compile_fails(checkpoint, UsageError, message, **how)


def test_what_does_not_fit_the_device(checkpoint: Path, tmp_path: Path) -> None:
    small = {"base": "x86-64-v3", "name": "small", "memory_limit": 100_000}
    (tmp_path / "small.json").write_text(json.dumps(small))
    message = r"'small' has 0\.0001 GB"
    compile_fails(checkpoint, DeviceError, message, target=str(tmp_path / "small.json"))


def test_interrupted(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control-C during packing, with partially written files."""

    def interrupt(phase: str, done: int, total: int) -> None:
        if phase == "pack" and done == 3:
            raise KeyboardInterrupt

    before = sorted(checkpoint.parent.iterdir())
    with pytest.raises(KeyboardInterrupt):
        compile_model(checkpoint, checkpoint.parent / "bundle", context=64, progress=interrupt)
    assert sorted(checkpoint.parent.iterdir()) == before


@pytest.mark.parametrize("damage", [change_config(vocab_size=9), change_tensors(transpose)])
def test_nothing_is_lowered_for_another_model(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    """The config.json is held against the tensors before the model is lowered."""
    monkeypatch.setattr("handglass.compiler.build.lower", lambda *_: pytest.fail("lowered"))
    damage(checkpoint)
    compile_fails(checkpoint, InputError, "checkpoint")


def renamed(prefix: str) -> Damage:
    def rename(tensors: dict[str, np.ndarray]) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    return change_tensors(rename)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.module."])
def test_a_prefix_of_all_names_is_removed(checkpoint: Path, prefix: str) -> None:
    plain = opened(checkpoint).read("llm.lm_head.weight", (401, 128))
    renamed(prefix)(checkpoint)
    assert np.array_equal(opened(checkpoint).read("llm.lm_head.weight", (401, 128)), plain)


def test_a_prefix_of_some_names_is_a_fault(checkpoint: Path) -> None:
    change_tensors(lambda t: t.update({"module.resampler.query": t.pop("resampler.query")}))(
        checkpoint
    )
    with pytest.raises(InputError, match="missing: resampler.query.*: module.resampler.query"):
        opened(checkpoint)


def opened(folder: Path) -> Checkpoint:
    """The checkpoint, after it was held against its model."""
    weights = Checkpoint.open(folder)
    family = find_family(weights.config)
    config = family.configure(weights.config)
    storage = choose_storage(config.language, ANY_CPU, "f32", None, 64, None)
    build_for(weights, family, config, storage)
    return weights


@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
def test_every_end_token_stops_an_answer(checkpoint: Path, where: str) -> None:
    path = checkpoint / where
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content | {"eos_token_id": [2, 0]}).encode())
    weights = Checkpoint.open(checkpoint)
    family = find_family(weights.config)
    config = family.configure(weights.config)
    prompt = family.prompt(config, TemplateFile())
    _, tokenizer = find_tokenizer(weights, prompt, config.language.vocab_size)
    stops = with_stops(prompt, tokenizer, stop_ids(weights, config.language)).stop
    assert [tokenizer.token_id(name) for name in stops] == [2, 0]


@pytest.mark.parametrize("value", [[401], "x", [[2]], {"a": 2}, -1])
def test_bad_end_tokens(checkpoint: Path, value: Any) -> None:
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    compile_fails(checkpoint, InputError, "generation_config.json: eos_token_id")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.model"])
def test_a_git_lfs_pointer_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_bytes(POINTER)
    compile_fails(checkpoint, InputError, f"{name}: .*git lfs pull")


def test_leftovers_beside_the_weights_are_ignored(checkpoint: Path) -> None:
    (checkpoint / "._model.safetensors").write_bytes(b"\0\5\x16\7")
    assert "llm.lm_head.weight" in Checkpoint.open(checkpoint)
    names = dict.fromkeys(load_file(checkpoint / "model.safetensors"), "model.safetensors")
    index = checkpoint / "model.safetensors.index.json"
    index.write_bytes(b"\xef\xbb\xbf" + json.dumps({"weight_map": names}).encode())
    (checkpoint / "consolidated.safetensors").write_bytes(b"stray")
    assert "llm.lm_head.weight" in Checkpoint.open(checkpoint)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"do_sample": True, "top_p": 0.9}, {"temp": 1.0, "top_p": 0.9}),
        ({"do_sample": True, "temperature": 0.6, "top_k": 0}, {"temp": 0.6}),
        ({"do_sample": True, "temperature": 0}, {"temp": 0}),
        ({"temperature": 0.6}, {"temp": 0.3}),
        ({"do_sample": False, "temperature": 0.6}, {"temp": 0.3}),
    ],
)
def test_sampling_of_the_generation_configuration(given: Any, expected: Any) -> None:
    """A file that samples replaces the defaults of the model; its temperature is 1 by default."""
    prompt = with_sampling(minicpm({}, {"temp": 0.3}), Fields(given, "generation_config.json"))
    assert prompt.defaults == expected


CHAT = {"temp": 0.7, "top_p": 0.8, "top_k": 100, "repeat_penalty": 1.05}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((f"MiniCPM-{name}", CHAT) for name in ("V 2.0", "V 2.5", "V 2.6", "o 2.6", "V 4.0")),
        ("MiniCPM-V 4.5", CHAT | {"repeat_penalty": 1.03}),
        ("MiniCPM-o 4.5", {"temp": 0.6, "top_p": 0.95, "top_k": 20}),
        ("MiniCPM-V 4.6", {"temp": 0.7}),
        ("MiniCPM-1B", {"temp": 0.3, "top_p": 0.8}),
    ],
)
def test_sampling_of_the_releases(name: str, expected: dict[str, float]) -> None:
    """What their own code, or their generation_config.json, samples with."""
    family, config = read_config(PUBLISHED[name])
    template = TemplateFile(CHATML if name == "MiniCPM-V 4.0" else "")
    assert dict(family.prompt(config, template).defaults) == expected
