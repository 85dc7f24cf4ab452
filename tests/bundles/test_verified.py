"""A parameter file is hashed again after any change to it; code is hashed at every start."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from written_bundle import write

from handglass.errors import MismatchError
from handglass.runtime.bundle import file_checks
from handglass.runtime.bundle import hashes as verified
from handglass.runtime.bundle.entries import FileEntry
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.system import file_state

PARAMS = "params-00001.safetensors"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle old enough for its state to be cached, with a private cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_state, "RECENT_NS", -1)
    write(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def hashed(path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A function that opens the bundle and returns the names of the files it hashed."""
    seen: list[str] = []
    original = file_checks.check_content
    names = {entry.sha256: name for name, entry in Bundle.open(path).manifest.files.items()}

    def check_content(file: BinaryIO, entry: FileEntry, hashed: bool) -> None:
        if hashed:
            seen.append(names[entry.sha256])
        original(file, entry, hashed)

    monkeypatch.setattr(file_checks, "check_content", check_content)

    def open_() -> list[str]:
        seen.clear()
        Bundle.open(path, verify="remembered")
        return sorted(seen)

    return open_


EVERYTHING = ["lib.so", PARAMS, "tokenizer.model"]
SMALL = ["lib.so", "tokenizer.model"]

Hashed = Callable[[], list[str]]


def memory_file(path: Path) -> Path:
    (file,) = (path.parent / "cache" / "handglass" / "verified").iterdir()
    return file


def test_only_once(hashed: Hashed) -> None:
    assert hashed() == EVERYTHING
    assert hashed() == SMALL
    assert hashed() == SMALL


def test_again_after_an_edit_in_place_that_keeps_size_and_time(path: Path, hashed: Hashed) -> None:
    hashed()
    file = path / PARAMS
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(b"Weights")
    os.utime(file, ns=times)
    with pytest.raises(MismatchError, match="sha256"):
        hashed()


def test_again_after_a_file_took_its_place(path: Path, hashed: Hashed) -> None:
    hashed()
    other = path / "other"
    shutil.copy2(path / PARAMS, other)
    other.replace(path / PARAMS)
    assert hashed() == EVERYTHING
    assert hashed() == SMALL


def test_a_wrong_file_is_not_remembered(path: Path, hashed: Hashed) -> None:
    (path / PARAMS).write_bytes(b"Weights")
    for _ in range(2):
        with pytest.raises(MismatchError, match="sha256"):
            hashed()


def test_a_changed_library_is_always_found(path: Path, hashed: Hashed) -> None:
    hashed()
    (path / "lib.so").write_bytes(b"Code")
    with pytest.raises(MismatchError, match=r"lib\.so"):
        hashed()


def test_a_missing_file_is_named(path: Path, hashed: Hashed) -> None:
    hashed()
    (path / PARAMS).unlink()
    with pytest.raises(MismatchError, match=f"{PARAMS}: is missing"):
        hashed()


def test_another_manifest_starts_anew(path: Path, hashed: Hashed) -> None:
    hashed()
    text = (path / "manifest.json").read_text("utf-8")
    (path / "manifest.json").write_text(text + "\n", "utf-8")
    assert hashed() == EVERYTHING


def test_a_copy_elsewhere_has_a_memory_of_its_own(path: Path, hashed: Hashed) -> None:
    hashed()
    shutil.copytree(path, path.with_name("copy"))
    Bundle.open(path.with_name("copy"), verify="remembered")
    assert hashed() == SMALL


def test_just_written_files_are_not_remembered(
    hashed: Hashed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_state, "RECENT_NS", 3_600_000_000_000)
    assert [hashed(), hashed()] == [EVERYTHING] * 2


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = verified.Verified(path, b"")
    before = (path / PARAMS).stat()
    (path / PARAMS).write_bytes(b"Weights")
    after = (path / PARAMS).stat()
    memory.add(PARAMS, before, after, "0" * 64)
    assert not memory.knows(PARAMS, before, "0" * 64)
    assert not memory.knows(PARAMS, after, "0" * 64)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"params-00001.safetensors": 3}', "\xff"])
def test_a_spoilt_memory_is_no_memory(path: Path, hashed: Hashed, text: str) -> None:
    hashed()
    memory_file(path).write_text(text, "latin-1")
    assert hashed() == EVERYTHING


def test_a_memory_that_others_may_write_is_not_believed(path: Path, hashed: Hashed) -> None:
    hashed()
    memory_file(path).chmod(0o666)
    assert hashed() == EVERYTHING
    memory_file(path).chmod(0o600)
    memory_file(path).parent.chmod(0o777)
    assert hashed() == EVERYTHING


def test_a_forged_hash_is_not_enough(path: Path, hashed: Hashed) -> None:
    """The cached hash must equal the one in the manifest."""
    hashed()
    known = json.loads(memory_file(path).read_text())
    known[PARAMS]["sha256"] = "0" * 64
    memory_file(path).write_text(json.dumps(known))
    assert hashed() == EVERYTHING


def test_without_a_place_to_remember_everything_is_hashed(
    path: Path, hashed: Hashed, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path.parent / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(path.parent / "file"))
    assert [hashed(), hashed()] == [EVERYTHING] * 2


def test_a_relative_cache_folder_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.setenv("HOME", "/home/me")
    assert verified.cache_folder("verified") == Path("/home/me/.cache/handglass/verified")
