"""The files of a bundle: trusted only after every one is hashed."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written_bundle import FILES, MANIFEST, drop, edit, write

from handglass.errors import InputError, MismatchError, UsageError
from handglass.runtime.bundle.entries import (
    FileEntry,
)
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.bundle.writer import BundleWriter


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


@pytest.mark.parametrize("name", ["lib.so", "tokenizer.model"])
def test_needed_files_must_be_listed(path: Path, name: str) -> None:
    edit(path, drop("files", name))
    with pytest.raises(MismatchError, match=f"'{name}'"):
        Bundle.open(path)


def test_only_listed_files_are_handed_out(path: Path) -> None:
    (path / "stranger.so").write_bytes(b"x")
    with pytest.raises(MismatchError, match=r"'stranger\.so'"):
        Bundle.open(path).file("stranger.so")


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
