"""A bundle is written to a temporary folder; an interrupted write leaves the old one in place."""

import os
import subprocess
from pathlib import Path

import pytest
from written_bundle import FILES, MANIFEST, drop, edit, put, write

from handglass.errors import DeviceError, MismatchError, UsageError
from handglass.runtime.bundle import replacing
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.system import exchange as exchange_module


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
            assert writer.folder.name.startswith(".b.partial-")
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


def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for a file system that cannot exchange two folders."""
    monkeypatch.setattr(replacing, "exchange", lambda one, two: False)


def test_two_folders_are_exchanged_in_one_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No moment without a bundle: nothing is renamed away."""
    monkeypatch.setattr(Path, "rename", lambda self, target: pytest.fail(f"renamed {self}"))
    write(path, overwrite=True, files=FILES | {"lib.so": b"new code"})
    assert Bundle.open(path).read("lib.so") == b"new code"
    assert leftovers(path.parent) == []


def test_without_exchange_it_is_replaced_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_exchange(monkeypatch)
    write(path, overwrite=True, files=FILES | {"lib.so": b"new code"})
    assert Bundle.open(path).read("lib.so") == b"new code"
    assert leftovers(path.parent) == []


def test_an_exchange_that_the_file_system_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    monkeypatch.setattr(exchange_module, "_RENAME_EXCHANGE", 1 << 30)  # EINVAL
    assert not exchange_module.exchange(tmp_path / "a", tmp_path / "b")
    monkeypatch.undo()
    if exchange_module.exchange(tmp_path / "a", tmp_path / "b"):
        assert (tmp_path / "a" / "file").read_text() == "b"
        with pytest.raises(OSError, match="none"):
            exchange_module.exchange(tmp_path / "a", tmp_path / "none")


def test_if_the_last_step_fails_the_old_bundle_is_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if "partial" in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    no_exchange(monkeypatch)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(DeviceError, match="No space left"):
        write(path, overwrite=True, files=FILES | {"lib.so": b"new"})
    monkeypatch.undo()
    assert Bundle.open(path).file("lib.so").read_bytes() == b"code"
    assert leftovers(path.parent) == []


def left_by(path: Path, kind: str, host: str, number: int) -> Path:
    """A folder beside a bundle as a writer leaves it."""
    folder = path.parent / f".{path.name}.{kind}-{host}.{number}"
    folder.mkdir()
    (folder / "lib.so").write_bytes(b"half")
    return folder


def dead() -> int:
    """The PID of a process that has ended."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_what_a_killed_writer_left_is_removed(path: Path) -> None:
    here, gone = replacing._host(), dead()
    running = left_by(path, "partial", here, os.getppid())
    killed = left_by(path, "partial", here, gone)
    moved = left_by(path, "old", here, gone)
    elsewhere = left_by(path, "partial", "another_machine", gone)
    write(path, overwrite=True)
    assert [folder.exists() for folder in (running, killed, moved)] == [True, False, False]
    assert elsewhere.exists()  # until nothing in it has changed for an hour
    for file in (elsewhere / "lib.so", elsewhere):
        os.utime(file, (0, 0))
    write(path, overwrite=True)
    assert not elsewhere.exists()


def test_what_another_process_holds_is_kept(path: Path) -> None:
    """Its PID may mean nothing here, as in another container."""
    folder = left_by(path, "partial", replacing._host(), dead())
    lock = replacing.hold(folder)
    write(path, overwrite=True)
    assert folder.exists()
    os.close(lock)
    write(path, overwrite=True)
    assert not folder.exists()


def test_a_bundle_that_a_killed_writer_moved_is_restored(path: Path) -> None:
    path.rename(path.parent / f".{path.name}.old-{replacing._host()}.{dead()}")
    with pytest.raises(UsageError, match="--overwrite"), BundleWriter(path):
        pytest.fail("it would have been replaced unasked")
    with BundleWriter(path, overwrite=True) as writer:
        writer.add_file("lib.so", b"new code")
    assert Bundle.open(path).read("lib.so") == b"code"
    assert leftovers(path.parent) == []


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
