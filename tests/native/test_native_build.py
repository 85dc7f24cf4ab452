"""Building the native runner: its inputs, and incremental compilation."""

from __future__ import annotations

import os
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from handglass.errors import DeviceError, MismatchError, UsageError
from handglass.targets.linking import native, native_sources
from handglass.targets.linking.native import Objects, Zig, build_native, find_triple
from handglass.targets.linking.native_sources import OURS, Source
from handglass.targets.linking.native_sources import native_sources as sources

ROOT = Path(__file__).parents[2]


class FakeZig(Zig):
    """A fake compiler that records its inputs and writes dependency files."""

    def run(self, *arguments: str) -> None:
        words = dict(pairwise(arguments))
        header = Path(words["-c"]).with_suffix(".h")
        Path(words["-MF"]).write_text(
            f"x.o: {words['-c']} \\\n  {header}\n".replace("a b", "a\\ b")
        )
        Path(words["-o"]).write_text(words["-c"])


@pytest.fixture
def source(tmp_path: Path) -> Source:
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "one.cc").write_text("1")
    (folder / "one.h").write_text("1")
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    return Source("one", folder / "one.cc", ("-O2", f"-I{folder}"))


def test_machines_by_any_of_their_names() -> None:
    names = ("aarch64", "arm64", "aarch64-linux-gnu", "aarch64-linux-android24")
    assert {find_triple(name) for name in names} == {"aarch64-linux-musl"}
    assert find_triple("x86_64") == "x86_64-linux-musl"
    with pytest.raises(UsageError, match="aarch64, x86_64"):
        find_triple("riscv64")


def test_every_source_is_there() -> None:
    pytest.importorskip("tvm")
    found = sources()
    assert all(source.path.is_file() for source in found)
    assert len({source.name for source in found}) == len(found)
    ours = {*OURS.glob("*.cc"), OURS.parent / "threads" / "pool.c"}
    assert {s.path for s in found if s.name.startswith("ours-")} == ours


def test_another_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tvm")
    monkeypatch.setattr(native_sources, "installed_version", lambda _: "0.28.0")
    with pytest.raises(MismatchError, match=r"0\.28\.0"):
        sources()


def test_without_zig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "installed_version", lambda _: None)
    with pytest.raises(DeviceError, match="ziglang"):
        build_native("aarch64", tmp_path)


def test_what_has_not_changed_is_not_compiled_again(source: Source, tmp_path: Path) -> None:
    folder, zig = tmp_path / "cache", FakeZig(("zig",), "1")
    make = lambda zig=zig: Objects(zig, folder).make(source)  # noqa: E731
    made = make()
    assert Objects(zig, folder).is_current(source)
    made.write_text("kept")
    assert make().read_text() == "kept"
    header = source.path.with_suffix(".h")
    header.write_text("2")
    os.utime(header, (2, 2))
    assert not Objects(zig, folder).is_current(source)
    assert make().read_text() == str(source.path)
    assert make(FakeZig(("zig",), "2")) != made
    changed = Source(source.name, source.path, ("-O1",))
    assert Objects(zig, folder).path(changed) != made
    assert {p.suffix for p in folder.iterdir()} == {".o", ".json"}


def test_another_checkout_compiles_its_own_sources(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = Objects(FakeZig(("zig",), "1"), tmp_path / "cache")
    objects.make(source)
    other = Source(source.name, tmp_path / "other" / "one.cc", source.flags)
    monkeypatch.setattr(native, "OURS", other.path.parent)
    assert objects.path(other) == objects.path(source) and objects.is_current(source)
    assert not objects.is_current(other)


def test_what_was_edited_meanwhile_is_compiled_again(source: Source, tmp_path: Path) -> None:
    later = time.time() + 60
    os.utime(source.path, (later, later))
    objects = Objects(FakeZig(("zig",), "1"), tmp_path / "cache")
    assert objects.make(source).is_file() and not objects.is_current(source)


def test_a_lost_or_torn_record_compiles_again(source: Source, tmp_path: Path) -> None:
    objects = Objects(FakeZig(("zig",), "1"), tmp_path / "cache")
    record = objects.make(source).with_suffix(".json")
    for content in ("{", "[]", '{"/nowhere": "0"}'):
        record.write_text(content)
        assert not objects.is_current(source)
    record.unlink()
    assert not objects.is_current(source)


def test_a_failing_compiler_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cannot access"):
        Zig(("ls",), "1").run("/nowhere/at/all")


def test_it_compiles_and_runs_a_file(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="no ziglang, which is large: make test-native")
    if os.uname().machine != "x86_64":
        pytest.skip("runs what it compiled for x86-64")
    file, program = tmp_path / "zero.c", tmp_path / "zero"
    file.write_text("int main(void) { return 7; }")
    Zig.find("x86_64-linux-musl").run("-x", "c", str(file), *native.LINK_FLAGS, "-o", str(program))
    assert subprocess.run([program], check=False).returncode == 7


def test_the_sources_travel_in_the_wheel() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["handglass.runtime"]
    packed = {file for pattern in patterns for file in OURS.parent.glob(pattern)}
    assert {p for p in OURS.rglob("*.*") if p.suffix in (".cc", ".h")} <= packed


def test_no_text_of_others_is_in_our_sources() -> None:
    """Our headers are written from the way the wheels' sources use them, not copied."""
    for file in (*OURS.rglob("*.cc"), *OURS.rglob("*.h")):
        text = file.read_text("utf-8")
        assert "Licensed to the Apache" not in text and "\\brief" not in text, file
        assert len(text.splitlines()) <= 400 and max(map(len, text.splitlines())) <= 100, file
