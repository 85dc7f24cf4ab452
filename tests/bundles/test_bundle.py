"""The bundle folder: parsed strictly, and trusted only after every file is hashed."""

import dataclasses
import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import chatml_prompt, grid_vision, seed_prompt, square

from handglass.errors import InputError, MismatchError, UsageError
from handglass.runtime.bundle import reader as bundle_module
from handglass.runtime.bundle.entries import (
    FileEntry,
    FunctionEntry,
    ModelEntry,
    PromptEntry,
    StateEntry,
    StateTensor,
    TargetEntry,
    TensorEntry,
    TokenizerEntry,
    VisionEntry,
)
from handglass.runtime.bundle.reader import Bundle, Manifest
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.system.json_dataclass import parse_dataclass

MANIFEST = Manifest(
    model=ModelEntry("MiniCPMV", {"hidden_size": 8, "nested": {"list": [1, 2.5, None]}}),
    target=TargetEntry("host", "x86_64-linux-gnu", "x86-64-v3", ("avx2", "fma")),
    scheme={"language": "w4", "vision": "f32"},
    versions={"handglass": "0.1.0", "tvm": "0.27.0.post1"},
    functions={"prefill": FunctionEntry(("x (s, 8) float32", "pos"), "(10,) float32")},
    params=(TensorEntry("a.weight", (3, 5), "float16"),),
    state=StateEntry(16, (StateTensor("layers.0.k_cache", (2, 16, 4), "float32"),)),
    vision=square(28, 14, 4, 2, std=(0.5, 0.25, 0.5)),
    prompt=seed_prompt(),
    tokenizer=TokenizerEntry("sentencepiece", "tokenizer.model"),
    vocab_size=10,
    hidden_size=8,
)
FILES = {"lib.so": b"code", "tokenizer.model": b"pieces", "params-00001.safetensors": b"weights"}


def write(path: Path, overwrite: bool = False, files: dict[str, bytes] = FILES) -> Bundle:
    with BundleWriter(path, overwrite) as writer:
        for name, data in files.items():
            writer.add_file(name, data)
        return writer.finish(MANIFEST)


@pytest.fixture()
def path(tmp_path: Path) -> Path:
    write(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_what_was_written_is_read(path: Path) -> None:
    bundle = Bundle.open(path)
    assert dataclasses.replace(bundle.manifest, files={}) == MANIFEST
    assert set(bundle.manifest.files) == set(FILES)
    assert bundle.file("lib.so").read_bytes() == b"code"
    assert bundle.params_names() == ["params-00001.safetensors"]
    assert bundle.manifest.files["lib.so"] == FileEntry(
        "5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b", 4
    )


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
    assert Manifest.parse(json.dumps(data), "page").tokenizer.kind == "sentencepiece"


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = path / "manifest.json"
    data = json.loads(file.read_text("utf-8"))
    change(data)
    file.write_text(json.dumps(data), "utf-8")


def put(*keys: Any) -> Callable[[dict[str, Any]], object]:
    """A change that sets data[keys[0]]...[keys[-2]] to keys[-1]."""

    def change(data: Any) -> None:
        for key in keys[:-2]:
            data = data[key]
        data[keys[-2]] = keys[-1]

    return change


def drop(*keys: Any) -> Callable[[dict[str, Any]], object]:
    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


def nested(depth: int) -> Any:
    return [] if depth == 0 else [nested(depth - 1)]


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


def test_a_folder_without_manifest_and_no_folder_are_input_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in (".", "missing", "file"):
        with pytest.raises(InputError, match=r"not a bundle: manifest\.json"):
            Bundle.open(tmp_path / name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "longer", "gone", "folder"])
def test_a_changed_file_is_a_mismatch(path: Path, name: str, damage: str) -> None:
    file = path / name
    data = file.read_bytes()
    file.unlink()
    if damage == "flip":
        file.write_bytes(b"X" + data[1:])
    elif damage == "longer":
        file.write_bytes(data + b"X")
    elif damage == "folder":
        file.mkdir()
    with pytest.raises(MismatchError, match=f"{name}: .*(sha256|bytes|missing)"):
        Bundle.open(path)
    states = {state.name: state.problem for state in Bundle.inspect(path).files}
    assert [n for n, problem in states.items() if problem] == [name]


def test_the_quick_check_hashes_all_but_parameters(path: Path) -> None:
    params = path / "params-00001.safetensors"
    params.write_bytes(b"WEIGHTS")
    with pytest.raises(MismatchError):
        Bundle.open(path)
    Bundle.open(path, verify="library")
    params.write_bytes(b"WEIGHT")
    with pytest.raises(MismatchError, match="6 bytes.* 7"):
        Bundle.open(path, verify="library")
    params.write_bytes(b"WEIGHTS")
    for name in ("lib.so", "tokenizer.model"):
        data = (path / name).read_bytes()
        (path / name).write_bytes(b"X" + data[1:])
        with pytest.raises(MismatchError, match=f"{name}: .*sha256"):
            Bundle.open(path, verify="library")
        (path / name).write_bytes(data)


@pytest.mark.parametrize("verify", ["none", "", None, True])
def test_there_is_no_fourth_way_to_verify(path: Path, verify: Any) -> None:
    with pytest.raises(UsageError, match=f"verify={verify!r}"):
        Bundle.open(path, verify=verify)


OUTSIDE = ["/etc/hostname", "../secret", "a/../../secret", "./lib.so", "a//b", "", "a\\b", "a\0b"]


@pytest.mark.parametrize("name", [*OUTSIDE, "manifest.json", ".."])
def test_no_name_leads_out_of_the_folder(path: Path, name: str) -> None:
    (path.parent / "secret").write_bytes(b"code")
    entry = json.loads((path / "manifest.json").read_text("utf-8"))["files"]["lib.so"]
    edit(path, put("files", name, entry))
    with pytest.raises(MismatchError, match="outside the bundle"):
        Bundle.open(path)
    states = {state.name: state.problem for state in Bundle.inspect(path).files}
    assert "outside the bundle" in states[name]
    with BundleWriter(path.parent / "other") as writer, pytest.raises(UsageError):
        writer.add_file(name, b"x")


def test_a_link_to_itself_is_a_mismatch(path: Path) -> None:
    (path / "lib.so").unlink()
    (path / "lib.so").symlink_to(path / "lib.so")
    with pytest.raises(MismatchError, match=r"lib\.so: "):
        Bundle.open(path)


def as_hub_cache(path: Path) -> Path:
    """The bundle in the layout of a model hub: snapshots/REVISION/NAME -> ../../blobs/HASH."""
    blobs, snapshot = path.parent / "blobs", path.parent / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for file in path.iterdir():
        blob = hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(blobs / blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob}")
    return snapshot


def test_a_bundle_in_a_hub_cache_is_read(path: Path) -> None:
    snapshot = as_hub_cache(path)
    bundle = Bundle.open(snapshot)
    assert bundle.read("lib.so") == b"code"
    assert not any(state.problem for state in Bundle.inspect(snapshot).files)
    (snapshot / "lib.so").resolve().write_bytes(b"CODE")
    with pytest.raises(MismatchError, match=r"lib\.so: .*sha256"):
        Bundle.open(snapshot)


def test_no_folder_leads_out_of_the_bundle(path: Path) -> None:
    outside = path.parent / "outside"
    outside.mkdir()
    (outside / "lib.so").write_bytes(b"code")
    (path / "part").symlink_to(outside)
    entry = json.loads((path / "manifest.json").read_text("utf-8"))["files"]["lib.so"]
    edit(path, put("files", "part/lib.so", entry))
    with pytest.raises(MismatchError, match=r"part/lib\.so: .*outside the bundle"):
        Bundle.open(path)
    with pytest.raises(MismatchError, match="outside the bundle"):
        Bundle.of_manifest(path).read("part/lib.so")


def test_a_bundle_may_be_reached_by_a_link_and_hold_links_inside(path: Path) -> None:
    (path / "lib.so").rename(path / "real.so")
    (path / "lib.so").symlink_to("real.so")
    alias = path.parent / "alias"
    alias.symlink_to(path)
    assert Bundle.open(alias).file("lib.so").read_bytes() == b"code"


@pytest.mark.parametrize("name", ["lib.so", "tokenizer.model"])
def test_needed_files_must_be_listed(path: Path, name: str) -> None:
    edit(path, drop("files", name))
    with pytest.raises(MismatchError, match=f"'{name}'"):
        Bundle.open(path)


def test_only_listed_files_are_handed_out(path: Path) -> None:
    (path / "stranger.so").write_bytes(b"x")
    with pytest.raises(MismatchError, match=r"'stranger\.so'"):
        Bundle.open(path).file("stranger.so")


def test_files_may_lie_in_folders(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b", files=FILES | {"tokenizer/merges.txt": b"m"})
    assert Bundle.open(tmp_path / "b").manifest == bundle.manifest


def test_a_bundle_can_be_moved_and_copied(path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(path, moved)
    assert Bundle.open(moved).manifest == Bundle.open(path).manifest


def with_params(path: Path, value: float) -> Path:
    """The path of a bundle with one tensor; its size does not depend on the value."""
    specs = [("a", (4,), "float32")]
    with BundleWriter(path) as writer:
        for name in ("lib.so", "tokenizer.model"):
            writer.add_file(name, FILES[name])
        with TensorWriter(writer.folder / "params-00001.safetensors", specs) as tensors:
            tensors.write("a", np.full(4, value, np.float32))
        writer.add_file("params-00001.safetensors")
        writer.finish(MANIFEST)
    return path


@pytest.mark.parametrize("verify", ["all", "library"])
def test_a_file_replaced_after_the_check_is_not_used(tmp_path: Path, verify: str) -> None:
    name = "params-00001.safetensors"
    path, other = with_params(tmp_path / "b", 1), with_params(tmp_path / "other", 2)
    bundle = Bundle.open(path, verify)
    assert bundle.tensors(name).array("a")[0] == 1
    shutil.copy(path / name, tmp_path / "same")
    (tmp_path / "same").replace(path / name)
    assert bundle.tensors(name).array("a")[0] == 1  # another file with the same content
    (other / name).replace(path / name)
    with pytest.raises(MismatchError, match=rf"{name}: .*sha256"):
        bundle.tensors(name)
    (path / "tokenizer.model").write_bytes(b"PIECES")
    with pytest.raises(MismatchError, match=r"tokenizer\.model: .*sha256"):
        bundle.read("tokenizer.model")


def test_the_documented_slices_and_template_are_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text("utf-8")
    fragments = re.findall(r'```json\n("(?:vision|prompt)": .*?)```', page, re.DOTALL)
    vision, prompt = (json.loads(f"{{{fragment}}}") for fragment in fragments)
    assert parse_dataclass(VisionEntry, vision["vision"], "page") == grid_vision()
    read = parse_dataclass(PromptEntry, prompt["prompt"], "page")
    assert read == chatml_prompt(reserved=read.reserved)
