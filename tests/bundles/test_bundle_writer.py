"""A bundle is written to a temporary folder; an interrupted write leaves the old one in place."""

import os
import subprocess
from pathlib import Path

import pytest
from test_bundle import FILES, MANIFEST, drop, edit, put, write

from handglass.errors import DeviceError, MismatchError, UsageError
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.writer import BundleWriter


@pytest.fixture()
def path(tmp_path: Path) -> Path:
    write(tmp_path / "bundle")
    return tmp_path / "bundle"


def leftovers(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.name.startswith("."))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_whatever_ends_the_writing_leaves_no_trace(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def write_halfway() -> None:
        with BundleWriter(tmp_path / "b") as writer:
            writer.add_file("lib.so", b"code")
            assert writer.folder.name == f".b.partial-{os.getpid()}"
            raise error

    with pytest.raises(error):
        write_halfway()
    assert list(tmp_path.iterdir()) == []


def test_without_finish_there_is_no_bundle(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        writer.add_file("lib.so", b"code")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_only_on_request(path: Path) -> None:
    with pytest.raises(UsageError, match="--overwrite"):
        write(path)
    write(path, overwrite=True, files=FILES | {"lib.so": b"new code"})
    assert Bundle.open(path).file("lib.so").read_bytes() == b"new code"
    assert leftovers(path.parent) == []


def test_a_bundle_of_another_version_or_damaged_is_replaced(path: Path) -> None:
    edit(path, put("version", 99))
    edit(path, drop("state"))
    write(path, overwrite=True)
    Bundle.open(path)


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_no_bundle_is_never_replaced(path: Path, kind: str) -> None:
    other = path.parent / "precious"
    if kind == "folder":
        other.mkdir()
        (other / "thesis.tex").write_text("x")
    elif kind == "file":
        other.write_text("x")
    else:
        other.symlink_to(path)
    with pytest.raises(UsageError, match="precious: .*not a bundle"):
        write(other, overwrite=True)
    assert other.exists() and leftovers(path.parent) == []


def test_an_empty_folder_may_become_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write(tmp_path / "b")
    Bundle.open(tmp_path / "b")


def test_if_the_last_step_fails_the_old_bundle_is_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if "partial" in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(DeviceError, match="No space left"):
        write(path, overwrite=True, files=FILES | {"lib.so": b"new"})
    monkeypatch.undo()
    assert Bundle.open(path).file("lib.so").read_bytes() == b"code"
    assert leftovers(path.parent) == []


def test_what_a_killed_writer_left_is_removed_once_it_is_old(path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    kept = {"b": os.getppid(), "c": dead.pid}
    folders = {name: path.parent / f".{name}.partial-{number}" for name, number in kept.items()}
    for folder in folders.values():
        folder.mkdir()
        (folder / "lib.so").write_bytes(b"half")
    for name, folder in folders.items():
        for file in (folder / "lib.so", folder):
            os.utime(file, (0, 0))
        write(path.parent / name, overwrite=True)
    assert folders["b"].exists()  # its process is still running
    assert not folders["c"].exists()
    folders["c"].mkdir()
    write(path.parent / "c", overwrite=True)
    assert folders["c"].exists()  # it may belong to another machine


def test_a_bundle_the_reader_would_refuse_is_not_written(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        writer.add_file("lib.so", b"code")
        with pytest.raises(MismatchError, match=r"'tokenizer\.model'"):
            writer.finish(MANIFEST)
    assert list(tmp_path.iterdir()) == []


def test_files_are_copied_from_a_path_or_taken_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "built.so").write_bytes(b"code")
    with BundleWriter(tmp_path / "b") as writer:
        writer.add_file("lib.so", tmp_path / "built.so")
        (writer.folder / "tokenizer.model").write_bytes(b"pieces")
        writer.add_file("tokenizer.model")
        with pytest.raises(UsageError, match=r"'report\.json'"):
            writer.add_file("report.json")
        with pytest.raises(DeviceError, match="/x: cannot be written"):
            writer.add_file("x", tmp_path / "missing")
        writer.finish(MANIFEST)
    assert Bundle.open(tmp_path / "b").file("lib.so").read_bytes() == b"code"
