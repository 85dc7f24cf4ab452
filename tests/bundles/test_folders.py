"""Where caches and outputs go when there is no home folder, and what `~` means."""

import os
import pwd
from pathlib import Path

import pytest

from handglass.errors import DeviceError, UsageError
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.system.scratch_file import scratch_file
from handglass.runtime.system.tilde import check_expanded
from handglass.runtime.system.user_cache import (
    cache_folder,
    data_folder,
    read_cached,
    write_cached,
)
from handglass.targets.deploy.deploy import open_transport


def nobody(number: int) -> None:
    raise KeyError(number)


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_nothing_is_written_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert "XDG_CACHE_HOME" in str(cache_folder("x")) and "XDG_DATA_HOME" in str(data_folder("x"))
    file = cache_folder("x") / "y.json"
    write_cached(file, {"a": 1})
    assert read_cached(file) == {}
    assert list(tmp_path.iterdir()) == [] and not Path("/.cache/handglass").exists()


def test_what_another_user_can_write_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "x.json"
    write_cached(file, {"a": 1})
    assert read_cached(file) == {"a": 1}
    for path, mode in ((file, 0o666), (file, 0o620), (file.parent, 0o777)):
        before = path.stat().st_mode
        path.chmod(mode)
        assert read_cached(file) == {}
        path.chmod(before)
    assert read_cached(file) == {"a": 1}


@pytest.mark.parametrize("path", ["~", "~/b", "~nosuch/b"])
def test_a_tilde_that_nobody_expanded_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for write in (check_expanded, BundleWriter, open_transport):
        with pytest.raises(UsageError, match=path):
            write(path)
    check_expanded(f"./{path}")
    check_expanded(f"a/{path}")
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_file_needs_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(os, "memfd_create"):
        monkeypatch.setattr("tempfile.TemporaryFile", lambda: pytest.fail("a folder was used"))
    with scratch_file() as file:
        os.write(file.fileno(), b"text")
        file.seek(0)
        assert file.read() == b"text"


def test_a_file_too_large_for_the_disk(tmp_path: Path) -> None:
    from handglass.runtime.bundle.tensor_writer import TensorWriter

    with pytest.raises(DeviceError, match=r"x\.safetensors"):
        TensorWriter(tmp_path / "x.safetensors", [("a", (1 << 60,), "float32")])


def test_a_cache_is_read_again_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        write_cached(tmp_path / "folder" / "x.json", {"a": 1})
    finally:
        os.umask(before)
    assert read_cached(tmp_path / "folder" / "x.json") == {"a": 1}
