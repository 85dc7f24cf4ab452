"""Names, links and folders of a bundle: nothing outside of it is read."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from written_bundle import FILES, edit, put, write

from handglass.errors import MismatchError, UsageError
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.writer import BundleWriter


@pytest.fixture()
def path(tmp_path: Path) -> Path:
    write(tmp_path / "bundle")
    return tmp_path / "bundle"


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


def test_files_may_lie_in_folders(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b", files=FILES | {"tokenizer/merges.txt": b"m"})
    assert Bundle.open(tmp_path / "b").manifest == bundle.manifest


def test_a_bundle_can_be_moved_and_copied(path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(path, moved)
    assert Bundle.open(moved).manifest == Bundle.open(path).manifest
