"""`handglass inspect`: shows the contents of a bundle, finds broken files, executes nothing."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from manifests import seed_prompt, square

from handglass.runtime.bundle.entries import (
    FunctionEntry,
    ModelEntry,
    StateEntry,
    StateTensor,
    TargetEntry,
    TensorEntry,
    TokenizerEntry,
)
from handglass.runtime.bundle.reader import Bundle, Manifest
from handglass.runtime.bundle.writer import BundleWriter

MANIFEST = Manifest(
    model=ModelEntry("MiniCPMV", {"hidden_size": 8, "version": 2.6}),
    target=TargetEntry("host", "x86_64-linux-gnu", "x86-64-v3", ("avx2", "fma")),
    scheme={"language": "w4", "vision": "f16"},
    versions={"handglass": "0.1.0", "tvm": "0.27.0.post1", "tvm_ffi": "0.1.14.post1"},
    functions={"decode": FunctionEntry(("ids (1,) int32", "pos"), "(20,) float32")},
    params=(TensorEntry("embed.weight", (20, 8), "float16"),),
    state=StateEntry(16, (StateTensor("layers.0.k_cache", (16, 8), "float32"),)),
    vision=square(28, 14, 64, 2),
    prompt=seed_prompt(),
    tokenizer=TokenizerEntry("sentencepiece", "tokenizer.model"),
    vocab_size=20,
    hidden_size=8,
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose library is not a shared object, since nothing may load it."""
    with BundleWriter(tmp_path / "bundle") as writer:
        writer.add_file("lib.so", b"never loaded")
        writer.add_file("tokenizer.model", b"pieces")
        writer.finish(MANIFEST)
    return tmp_path / "bundle"


def test_text(handglass: Any, bundle: Path) -> None:
    result = handglass("inspect", bundle)
    assert (result.code, result.err) == (0, "")
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    for line in (
        "model MiniCPMV 2.6",
        "target host (x86_64-linux-gnu, x86-64-v3)",
        "needs avx2 fma",
        "scheme language w4, vision f16",
        "parameters 1, 320 B",
        "context 16 tokens, cache 512 B",
        "decode (ids (1,) int32, pos) -> (20,) float32",
        "lib.so 12 B ok",
    ):
        assert line in lines
    assert "embed.weight" not in result.out and "must have" not in result.out


def test_what_a_gpu_must_have(handglass: Any, tmp_path: Path) -> None:
    abilities = {"supports_float16": 1, "supports_int64": 0, "max_threads_per_block": 256}
    target = dataclasses.replace(MANIFEST.target, device="vulkan", abilities=abilities)
    with BundleWriter(tmp_path / "bundle") as writer:
        writer.add_file("lib.so", b"never loaded")
        writer.add_file("tokenizer.model", b"pieces")
        writer.finish(dataclasses.replace(MANIFEST, target=target))
    out = handglass("inspect", tmp_path / "bundle").out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "device vulkan" in lines and "must have float16, max_threads_per_block 256" in lines


def test_tensors_are_listed_on_request(handglass: Any, bundle: Path) -> None:
    result = handglass("inspect", bundle, "--tensors")
    assert "embed.weight" in result.out
    assert "layers.0.k_cache" in result.out
    found = handglass("inspect", bundle, "--tensors", "--json").json
    assert found["params"] == [{"name": "embed.weight", "shape": [20, 8], "dtype": "float16"}]


def test_json(handglass: Any, bundle: Path) -> None:
    found = handglass("inspect", bundle, "--json").json
    assert "params" not in found
    assert (found["params_count"], found["params_bytes"], found["cache_bytes"]) == (1, 320, 512)
    assert found["ok"] is True
    assert found["files"][0] == {"name": "lib.so", "size": 12, "problem": "", "ok": True}


def test_broken_file_is_reported_as_a_mismatch(handglass: Any, bundle: Path) -> None:
    (bundle / "lib.so").write_bytes(b"never loadeD")
    result = handglass("inspect", bundle)
    assert result.code == 5
    assert "BROKEN" in result.out and "sha256" in result.out
    as_json = handglass("inspect", bundle, "--json")
    assert (as_json.code, as_json.json["ok"]) == (5, False)


def test_not_a_bundle(handglass: Any, tmp_path: Path) -> None:
    result = handglass("inspect", tmp_path)
    assert (result.code, result.out) == (3, "")
    assert str(tmp_path) in result.err


def test_fixture_is_a_bundle(bundle: Path) -> None:
    assert Bundle.open(bundle).manifest.hidden_size == 8


HOSTILE = "\x1b]0;title\x07\u202e\x9b2J"


@pytest.mark.parametrize("options", [(), ("--tensors",), ("--json", "--tensors")])
def test_text_of_the_manifest_is_shown_escaped(handglass: Any, bundle: Path, options: Any) -> None:
    change(bundle, target__name=HOSTILE, versions={HOSTILE: "1"}, scheme={"language": HOSTILE})
    result = handglass("inspect", bundle, *options)
    assert (result.code, result.err) == (0, "")
    assert all(line.isprintable() for line in result.out.splitlines())
    assert "title" in result.out


def test_a_message_is_shown_escaped(handglass: Any, tmp_path: Path) -> None:
    result = handglass("inspect", tmp_path / HOSTILE)
    assert result.code == 3 and "title" in result.err
    assert all(line.isprintable() for line in result.err.splitlines())


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_json_is_printed_whole(handglass: Any, bundle: Path, digits: int) -> None:
    change(bundle, model__config={"a": 1})
    file = bundle / "manifest.json"
    file.write_text(file.read_text("utf-8").replace('"a": 1', f'"a": {"1" * digits}'), "utf-8")
    result = handglass("inspect", bundle, "--json")
    assert (result.code, result.json["error"]["kind"]) == (3, "input")


def change(bundle: Path, **values: Any) -> None:
    """Set manifest keys; `a__b` is the key b of the object a."""
    file = bundle / "manifest.json"
    data = json.loads(file.read_text("utf-8"))
    for name, value in values.items():
        place, *rest = name.split("__")
        if rest:
            data[place][rest[0]] = value
        else:
            data[place] = value
    file.write_text(json.dumps(data), "utf-8")
