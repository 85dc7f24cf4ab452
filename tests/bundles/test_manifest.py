"""The manifest of a bundle: parsed strictly, with a bound on every number."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from manifests import chatml_prompt, grid_vision
from written_bundle import drop, edit, put, write

from handglass.errors import InputError, MismatchError
from handglass.runtime.bundle import reader as bundle_module
from handglass.runtime.bundle.entries import (
    PromptEntry,
    VisionEntry,
)
from handglass.runtime.bundle.reader import Bundle, Manifest
from handglass.runtime.system.json_dataclass import parse_dataclass


@pytest.fixture()
def path(tmp_path: Path) -> Path:
    write(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_the_manifest_is_the_documented_json(path: Path) -> None:
    data = json.loads((path / "manifest.json").read_text("utf-8"))
    assert (data["format"], data["version"]) == ("handglass-bundle", 2)
    assert data["vision"]["std"] == [0.5, 0.25, 0.5]
    assert data["prompt"]["roles"]["user"] == {"before": "<用户>"}
    assert data["params"] == [{"name": "a.weight", "shape": [3, 5], "dtype": "float16"}]
    assert data["files"]["lib.so"]["size"] == 4


def test_the_contract_page_parses() -> None:
    page = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text("utf-8")
    text = page.split("```json")[1].split("```")[0]
    data = json.loads(text)
    entry = {"sha256": "0" * 64, "size": 1}
    data["files"] = {"lib.so": entry, "tokenizer.model": entry}
    tokenizer = Manifest.parse(json.dumps(data), "page").tokenizer
    assert tokenizer is not None and tokenizer.kind == "sentencepiece"


def test_the_documented_slices_and_template_are_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text("utf-8")
    fragments = re.findall(r'```json\n("(?:vision|prompt)": .*?)```', page, re.DOTALL)
    vision, prompt = (json.loads(f"{{{fragment}}}") for fragment in fragments)
    assert parse_dataclass(VisionEntry, vision["vision"], "page") == grid_vision()
    read = parse_dataclass(PromptEntry, prompt["prompt"], "page")
    assert read == chatml_prompt(reserved=read.reserved)


def documented_encoders() -> Any:
    """The manifest of the page, as that of a dual encoder."""
    page = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text("utf-8")
    data = json.loads(page.split("```json")[1].split("```")[0])
    fragment = re.findall(r'```json\n("encoders": .*?)```', page, re.DOTALL)[0]
    data |= json.loads(f"{{{fragment}}}")
    entry = {"sha256": "0" * 64, "size": 1}
    data["files"] = {"lib.so": entry, "tokenizer.model": entry}
    data["functions"] = {
        name: {"arguments": ["params"], "result": ""} for name in ("encode_image", "encode_text")
    }
    data["prompt"] = {"bos": "", "roles": {}, "tiles": {}, "reserved": [], "stop": []}
    return data | {"vocab_size": 49408, "state": {"context": 80, "tensors": []}}


WRONG_ENCODERS = {
    "score": (put("score", "max"), "score must be one of sigmoid, softmax, cosine"),
    "scale": (put("scale", 1e31), "encoders.scale is 1e[+]31"),
    "cosine": (put("score", "cosine"), "must not be cosine"),
    "class tokens": (put("class_tokens", 65), "class_tokens is 65, but must be from 0 to 64"),
    "labels": (put("labels", ["a"]), "need classify exactly where they have labels"),
    "no text": (put("text", None), "need encode_text exactly where they have text"),
    "length": (put("text", "length", 1 << 13), "text.length is 8192"),
    "no room": (put("text", "length", 1), "must hold the ids before and after"),
    "id": (put("text", "before", [49408]), "ids within the vocabulary"),
    "padding": (put("text", "padding", -1), "ids within the vocabulary"),
}


def test_the_documented_encoders_are_read() -> None:
    encoders = Manifest.parse(json.dumps(documented_encoders()), "page").encoders
    assert encoders is not None and encoders.text is not None and encoders.text.padding is None


@pytest.mark.parametrize("case", WRONG_ENCODERS)
def test_wrong_encoders_are_refused(case: str) -> None:
    change, message = WRONG_ENCODERS[case]
    data = documented_encoders()
    change(data["encoders"])
    with pytest.raises(InputError, match=message):
        Manifest.parse(json.dumps(data), "page")


@pytest.mark.parametrize("missing", ["functions", "vision", "tokenizer"])
def test_encoders_need_what_they_have(missing: str) -> None:
    data = documented_encoders()
    data[missing] = {} if missing == "functions" else None
    with pytest.raises(InputError, match="encode_image exactly where|must be positive"):
        Manifest.parse(json.dumps(data), "page")


@pytest.mark.parametrize("missing", ["text", "vision"])
def test_an_encoder_may_have_one_tower(missing: str) -> None:
    data = documented_encoders()
    data["encoders"]["score"] = "cosine"
    if missing == "vision":
        data["vision"] = None
        del data["functions"]["encode_image"]
    else:
        data["encoders"]["text"] = data["tokenizer"] = None
        data["vocab_size"] = 0
        del data["functions"]["encode_text"]
    manifest = Manifest.parse(json.dumps(data), "page")
    assert (manifest.vision is None) == (missing == "vision")


def nested(depth: int) -> Any:
    return [] if depth == 0 else [nested(depth - 1)]


SHOWN = {"name": "v", "shape": [1, 16, 8], "dtype": "float32", "kind": "pictures"}
WRONG_INPUT = {
    "another format": (put("format", "gguf"), "'handglass-bundle'"),
    "no format": (drop("format"), "'handglass-bundle'"),
    "missing key": (drop("state"), "'state' is missing"),
    "missing inner key": (drop("vision", "std"), "'vision.std' is missing"),
    "missing in a list": (drop("params", 0, "dtype"), r"'params\[0\].dtype' is missing"),
    "unknown key": (put("extra", 1), "'extra' is unknown"),
    "unknown inner key": (put("state", "extra", 1), "'state.extra' is unknown"),
    "text for number": (put("vocab_size", "10"), "vocab_size .*'10'"),
    "truth for number": (put("vocab_size", True), "vocab_size .*True"),
    "fraction": (put("state", "context", 16.0), r"state\.context .*16\.0"),
    "number for text": (put("target", "cpu", 3), r"target\.cpu .*3"),
    "object for list": (put("params", {}), r"params .*\{\}"),
    "list for object": (put("files", []), r"files .*\[\]"),
    "text for object": (put("model", "x"), "model .*'x'"),
    "text in shape": (put("params", 0, "shape", ["3"]), r"params\[0\]\.shape\[0\] .*'3'"),
    "null": (put("prompt", None), "prompt .*None"),
    "no positions": (put("state", "context", 0), r"state\.context"),
    "state kind": (put("state", "tensors", 0, "kind", "liquid"), "positions, recurrent"),
    "no user": (drop("prompt", "roles", "user"), r"prompt\.roles"),
    "no rows": (put("vision", "query_num", 0), r"vision\.query_num"),
    "rows twice": (put("vision", "patches_per_row", 4), r"vision\.query_num"),
    "negative work": (put("work", {"decode": {"bytes": -1}}), "work"),
    "no patches": (put("vision", "patch_size", 0), r"vision\.patch_size"),
    "patch size": (put("vision", "patch_size", 13), r"multiple of vision\.patch_size"),
    "two means": (put("vision", "mean", [0.5, 0.5]), r"vision\.mean"),
    "zero std": (put("vision", "std", [0.5, 0, 0.5]), r"vision\.std"),
    "three levels": (put("vision", "window_levels", 3), r"vision\.window_levels is 3"),
    "negative levels": (put("vision", "window_levels", -1), r"vision\.window_levels is -1"),
    "opening": (put("prompt", "answer", {"loud": "x"}), r"prompt\.answer must have"),
    "half of thoughts": (put("prompt", "thoughts", {"before": "x"}), r"prompt\.thoughts"),
    "thinking without thoughts": (
        put("prompt", "answer", {"thinking": "x"}),
        r"prompt\.answer\.thinking needs prompt\.thoughts",
    ),
    "pictures without a function": (put("prompt", "picture", "<s>"), r"prompt\.picture needs"),
    "pictures without a token": (put("state", "tensors", [SHOWN]), r"prompt\.picture needs"),
    "negative extra tokens": (put("extra_tokens", -1), "extra_tokens must be from 0"),
    "system without a role": (put("prompt", "system", "x"), r"prompt\.system needs a role"),
    "positions that nothing takes": (
        put("prompt", "positions", {"kind": "canvas", "parameters": {}}),
        r"prompt\.positions must be plain",
    ),
    "positions that nothing gives": (
        put("functions", "prefill", "arguments", ["x (s, 8) float32", "positions (s, 3) int32"]),
        r"prompt\.positions must be plain",
    ),
    "no stop": (put("prompt", "stop", []), r"prompt\.stop"),
    "tokenizer kind": (put("tokenizer", "kind", "words"), r"tokenizer\.kind"),
    "negative shape": (put("params", 0, "shape", [-1, 5]), r"params\[0\]\.shape .*-1"),
    "nested": (put("model", "config", {"a": nested(99)}), "nested"),
    "surrogate": (put("target", "name", "\ud800"), "surrogate"),
    "not finite": (put("vision", "mean", [math.inf, 0.5, 0.5]), "Infinity"),
    "number of 400 digits": (put("state", "context", 10**399), "1000000"),
    "shape of 400 digits": (put("params", 0, "shape", [10**399]), "1000000"),
    "shape of many bytes": (put("params", 0, "shape", [2**40, 2**40]), r"params\[0\]\.shape"),
    "empty, and huge": (put("params", 0, "shape", [0, 2**62]), r"params\[0\]\.shape"),
    "many dimensions": (put("params", 0, "shape", [1] * 40), r"params\[0\]\.shape"),
    "dtype": (put("params", 0, "dtype", "foo"), r"params\[0\]\.dtype .*'foo'"),
    "dtype of Python objects": (put("params", 0, "dtype", "O"), r"params\[0\]\.dtype .*'O'"),
    "state dtype": (put("state", "tensors", 0, "dtype", "V9"), r"state\.tensors\[0\]\.dtype"),
    "large tile": (put("vision", "image_size", 57344), r"vision\.image_size .*57344"),
    "many rows": (put("vision", "query_num", 2**62), rf"vision\.query_num .*{2**62}"),
    "long context": (put("state", "context", 2**40), rf"state\.context .*{2**40}"),
    "vocabulary": (put("vocab_size", 2**40), rf"vocab_size .*{2**40}"),
    "hidden size": (put("hidden_size", 2**40), rf"hidden_size .*{2**40}"),
    "file size": (put("files", "lib.so", "size", 2**62), r"files\.'lib.so'\.size"),
    "tiny std": (put("vision", "std", [0.5, 1e-300, 0.5]), r"vision\.std .*1e-300"),
    "tensor twice": (
        lambda data: data["params"].append(data["params"][0]),
        "once",
    ),
    "short hash": (put("files", "lib.so", "sha256", "12ab"), "sha256"),
    "upper-case hash": (put("files", "lib.so", "sha256", "A" * 64), "sha256"),
}


@pytest.mark.parametrize("case", WRONG_INPUT)
def test_a_wrong_manifest_is_an_input_error(path: Path, case: str) -> None:
    change, message = WRONG_INPUT[case]
    edit(path, change)
    for read in (Bundle.open, Bundle.inspect):
        with pytest.raises(InputError, match=message) as caught:
            read(path)
        assert str(path / "manifest.json") in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [1, 3, 0, "2", None, True])
def test_another_version_is_a_mismatch(path: Path, version: Any) -> None:
    edit(path, put("version", version))
    with pytest.raises(MismatchError, match=f"version {version!r} .*version 2"):
        Bundle.open(path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 99999, b'"text"'])
def test_a_manifest_that_is_no_json_object_is_an_input_error(path: Path, text: bytes) -> None:
    (path / "manifest.json").write_bytes(text)
    with pytest.raises(InputError, match=r"manifest\.json"):
        Bundle.open(path)


def test_a_manifest_beyond_all_size_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (path / "manifest.json").stat().st_size
    monkeypatch.setattr(bundle_module, "MAX_MANIFEST", size)
    Bundle.open(path)
    monkeypatch.setattr(bundle_module, "MAX_MANIFEST", size - 1)
    with pytest.raises(InputError, match=f"{size - 1} bytes"):
        Bundle.open(path)
