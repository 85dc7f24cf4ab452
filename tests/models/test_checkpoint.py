"""Checkpoint folders: contents, peak memory, and every error."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_models import GROUPED, UNTIED, write_checkpoint
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from handglass.compiler.checkpoints.checkpoint import EMBEDDING, LM_HEAD, Checkpoint
from handglass.errors import InputError

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5
INDEX = "model.safetensors.index.json"


def folder_with(path: Path, **tensors: np.ndarray) -> Path:
    """A folder with an empty config and one safetensors file."""
    (path / "config.json").write_text("{}")
    save_file(tensors, path / "model.safetensors")
    return path


def sharded(path: Path, weight_map: dict[str, str], files: dict[str, dict[str, Any]]) -> Path:
    """A folder with this index and these shards, which need not match."""
    (path / "config.json").write_text("{}")
    (path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    for name, content in files.items():
        save_file(content, path / name)
    return path


# --- what is read ---


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_reads_each_float_type_as_float32(tmp_path: Path, dtype: str) -> None:
    torch.manual_seed(0)
    stored = torch.randn(5, 7).to(getattr(torch, dtype))
    (tmp_path / "config.json").write_text("{}")
    save_torch_file({"a": stored}, tmp_path / "model.safetensors")
    read = Checkpoint.open(tmp_path).read("a", (5, 7))
    assert read.dtype == np.float32
    assert np.array_equal(read, stored.float().numpy())


@pytest.mark.parametrize("shard_bytes", [None, 200_000])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_random_checkpoint_equals_the_safetensors_package(
    tmp_path: Path, dtype: str, shard_bytes: int | None
) -> None:
    write_checkpoint(tmp_path, UNTIED, dtype, shard_bytes)
    checkpoint = Checkpoint.open(tmp_path)
    files = list(tmp_path.glob("*.safetensors"))
    assert (len(files) > 1) == (shard_bytes is not None)
    for path in files:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (the file is not iterable)
                expected = file.get_tensor(name).float().numpy()
                assert np.array_equal(checkpoint.read(name, expected.shape), expected)
    checkpoint.finish()


def test_rows_of_a_tensor(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(folder_with(tmp_path, a=VALUES))
    assert np.array_equal(checkpoint.read_rows("a", 1, 2), VALUES[1:2])
    assert checkpoint.shape("a") == (2, 3)
    checkpoint.finish()


def test_reading_gives_a_copy(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(folder_with(tmp_path, a=VALUES))
    checkpoint.read("a", (2, 3))[:] = 0
    assert np.array_equal(checkpoint.read("a", (2, 3)), VALUES)


def test_memory_follows_the_largest_tensor(tmp_path: Path) -> None:
    """Reading 160 MB in tensors of 10 MB does not increase resident memory by 160 MB."""
    tensors = {f"t{i}": np.full((2560, 1024), i, np.float32) for i in range(16)}
    folder_with(tmp_path, **tensors)
    code = (
        "import resource, sys\n"
        "from handglass.compiler.checkpoints.checkpoint import Checkpoint\n"
        "checkpoint = Checkpoint.open(sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for i in range(16):\n"
        "    checkpoint.read(f't{i}', (2560, 1024))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 50_000  # kB


# --- tensors that do not fit the model ---


def test_missing_tensor(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(folder_with(tmp_path, a=VALUES))
    with pytest.raises(InputError, match="tensor b is missing"):
        checkpoint.read("b", (2, 3))


def test_wrong_shape(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(folder_with(tmp_path, a=VALUES))
    with pytest.raises(InputError, match=r"a: .*\(2, 3\).*\(3, 2\)"):
        checkpoint.read("a", (3, 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number(tmp_path: Path, bad: float) -> None:
    values = np.array([1, bad], np.float32)
    with pytest.raises(InputError, match="a: .*NaN"):
        Checkpoint.open(folder_with(tmp_path, a=values)).read("a", (2,))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float64, np.bool_])
def test_not_a_weight_type(tmp_path: Path, dtype: Any) -> None:
    checkpoint = Checkpoint.open(folder_with(tmp_path, a=np.zeros(3, dtype)))
    with pytest.raises(InputError, match=f"a: .*{np.dtype(dtype).name}"):
        checkpoint.read("a", (3,))


def test_left_over_tensors_are_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(folder_with(tmp_path, a=VALUES, b=VALUES))
    checkpoint.read("a", (2, 3))
    with pytest.raises(InputError, match="1 tensor .*: b$"):
        checkpoint.finish()


def test_many_left_over_tensors_are_counted(tmp_path: Path) -> None:
    tensors = {f"x{i:02d}": VALUES for i in range(12)}
    with pytest.raises(InputError, match=r"12 tensors .*: x00, x01, .*, x09, \.\.\.$"):
        Checkpoint.open(folder_with(tmp_path, **tensors)).finish()


def test_tensors_without_weights_of_ours_are_skipped(tmp_path: Path) -> None:
    names = [
        "llm.model.layers.0.self_attn.rotary_emb.inv_freq",
        "vpm.embeddings.position_ids",
        "apm.conv1.weight",
        "tts.emb.weight",
        "mtp.fc.weight",
        "audio_projection_layer.linear1.weight",
    ]
    Checkpoint.open(folder_with(tmp_path, **dict.fromkeys(names, VALUES))).finish()


# --- the language model head ---


def test_head_is_the_embedding_when_tied_and_absent(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(folder_with(tmp_path, **{EMBEDDING: VALUES}))
    assert checkpoint.lm_head(tied=True) == EMBEDDING
    assert checkpoint.lm_head(tied=False) == LM_HEAD
    with pytest.raises(InputError, match=f"{LM_HEAD} is missing"):
        checkpoint.read(LM_HEAD, (2, 3))


def test_stored_copy_of_a_tied_head_is_fine(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(folder_with(tmp_path, **{EMBEDDING: VALUES, LM_HEAD: VALUES}))
    assert checkpoint.lm_head(tied=True) == EMBEDDING
    checkpoint.finish()


def test_other_head_beats_the_tie(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = Checkpoint.open(folder_with(tmp_path, **{EMBEDDING: VALUES, LM_HEAD: -VALUES}))
    with caplog.at_level(logging.WARNING):
        assert checkpoint.lm_head(tied=True) == LM_HEAD
    assert LM_HEAD in caplog.text


# --- folders and files ---


def damaged(path: Path, damage: Callable[[Path], Any]) -> Path:
    folder_with(path, a=VALUES)
    damage(path)
    return path


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda path: (path / name).write_bytes(change((path / name).read_bytes()))


FOLDERS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda p: (p / "config.json").unlink(), "config.json: no such file"),
    (rewrite("config.json", lambda b: b"{"), "config.json: not valid JSON"),
    (rewrite("config.json", lambda b: b"\xff\xfe"), "config.json: not valid JSON"),
    (rewrite("config.json", lambda b: b"[" * 100_000), "config.json: not valid JSON"),
    (rewrite("config.json", lambda b: b'{"a": 1, "a": 2}'), "'a' occurs twice"),
    (rewrite("config.json", lambda b: b"[]"), "expected an object"),
    (lambda p: (p / "model.safetensors").unlink(), "*.safetensors"),
    (rewrite("model.safetensors", lambda b: b[:-1]), "model.safetensors"),
    (rewrite("model.safetensors", lambda b: b + b"\0"), "model.safetensors"),
    (rewrite("model.safetensors", lambda b: b[:5]), "model.safetensors"),
    (rewrite("model.safetensors", lambda b: b""), "model.safetensors"),
    (rewrite("model.safetensors", lambda b: b"\xff" * 8 + b[8:]), "model.safetensors"),
    (lambda p: save_file({"b": VALUES}, p / "other.safetensors"), INDEX),
    (lambda p: (p / INDEX).write_text("{"), f"{INDEX}: not valid JSON"),
    (lambda p: (p / INDEX).write_text("[]"), f"{INDEX}: weight_map"),
    (lambda p: (p / INDEX).write_text('{"weight_map": {}}'), f"{INDEX}: weight_map"),
    (lambda p: (p / INDEX).write_text('{"weight_map": {"a": 3}}'), "a is in 3"),
]


@pytest.mark.parametrize(("damage", "message"), FOLDERS)
def test_damaged_folder(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        Checkpoint.open(damaged(tmp_path, damage))
    assert message in str(error.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        Checkpoint.open(tmp_path / "absent")


def loop(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_link_to_itself(tmp_path: Path, name: str) -> None:
    folder_with(tmp_path, a=VALUES)
    loop(tmp_path / name)
    with pytest.raises(InputError, match=re.escape(name)):
        Checkpoint.open(tmp_path)


def test_an_index_that_is_its_own_shard(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": INDEX}, {})
    with pytest.raises(InputError, match=re.escape(INDEX)):
        Checkpoint.open(tmp_path)


def test_missing_shard(tmp_path: Path) -> None:
    sharded(
        tmp_path, {"a": "1.safetensors", "b": "2.safetensors"}, {"1.safetensors": {"a": VALUES}}
    )
    with pytest.raises(InputError, match=r"2\.safetensors: .*missing"):
        Checkpoint.open(tmp_path)


def test_truncated_shard(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, GROUPED, "bfloat16", 500_000)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match=shard.name):
        Checkpoint.open(tmp_path)


def test_tensor_that_only_the_index_knows(tmp_path: Path) -> None:
    files = {"1.safetensors": {"a": VALUES}}
    sharded(tmp_path, {"a": "1.safetensors", "b": "1.safetensors"}, files)
    with pytest.raises(InputError, match=r"b is .*1\.safetensors"):
        Checkpoint.open(tmp_path)


def test_tensor_that_only_the_shard_knows(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": "1.safetensors"}, {"1.safetensors": {"a": VALUES, "b": VALUES}})
    with pytest.raises(InputError, match=r"1\.safetensors .* b,"):
        Checkpoint.open(tmp_path)


def test_tensor_in_two_shards(tmp_path: Path) -> None:
    files = {"1.safetensors": {"a": VALUES}, "2.safetensors": {"a": VALUES, "b": VALUES}}
    sharded(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"}, files)
    with pytest.raises(InputError, match=r"a is .*1\.safetensors and 2\.safetensors"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/tmp/x.safetensors", "sub/x.safetensors", "..", "a\\b", ""]
)
def test_shard_outside_the_folder(tmp_path: Path, name: str) -> None:
    sharded(tmp_path, {"a": name}, {})
    with pytest.raises(InputError, match=re.escape(repr(name))):
        Checkpoint.open(tmp_path)


# --- .bin files ---


def pickled(path: Path, content: Any) -> Path:
    (path / "config.json").write_text("{}")
    torch.save(content, path / "pytorch_model.bin")
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_bin_file_when_allowed(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.from_numpy(VALUES).to(dtype)
    checkpoint = Checkpoint.open(pickled(tmp_path, {"a": values.t()}), allow_pickle=True)
    assert np.array_equal(checkpoint.read("a", (3, 2)), VALUES.T)
    checkpoint.finish()


def test_bin_file_needs_permission(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"safetensors\.torch\.save_file.*--allow-pickle"):
        Checkpoint.open(pickled(tmp_path, {"a": torch.zeros(2)}))


class Payload:
    """An object that runs code when it is unpickled, as an attacker would use."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


@pytest.mark.parametrize("content", [{"a": Payload()}, [torch.zeros(2)], {"a": 3}, {1: 2}])
def test_bin_file_with_other_things(
    tmp_path: Path, content: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pickled(tmp_path, content)
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        Checkpoint.open(tmp_path, allow_pickle=True)
    assert "executed" not in capsys.readouterr().out


def test_damaged_bin_file(tmp_path: Path) -> None:
    path = pickled(tmp_path, {"a": torch.zeros(200)}) / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        Checkpoint.open(tmp_path, allow_pickle=True)
