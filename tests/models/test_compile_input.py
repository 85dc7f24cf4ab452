"""Bad checkpoints and options: each raises one clear error and leaves no partial bundle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_models import UNTIED, write_checkpoint
from safetensors.numpy import load_file, save_file

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from handglass.compiler.build import compile_model
from handglass.errors import DeviceError, HandglassError, InputError, UsageError

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
    (change_config(num_hidden_layers=3), InputError, "layers.2.* is missing"),
    (change_config(num_hidden_layers=1), InputError, "9 tensors"),
    (change_config(vocab_size=402), InputError, "embed_tokens.weight: .*402"),
    (change_tensors(lambda t: t.pop("resampler.query")), InputError, "resampler.query is missing"),
    (
        change_tensors(lambda t: t.update({"resampler.pos_embed": np.zeros((5, 128), "f4")})),
        InputError,
        "1 tensor .*: resampler.pos_embed",
    ),
    (change_tensors(transpose), InputError, r"fc1.weight: .*\(48, 100\).*\(100, 48\)"),
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
