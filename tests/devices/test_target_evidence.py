"""Evidence for targets: reading, refusal of invalid files, and writing of passed tests only."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from handglass.errors import InputError
from handglass.targets import evidence_writing, find_target, known_targets
from handglass.targets.evidence import DIARY, FOLDER, Entry, Evidence, parse_evidence, read_evidence
from handglass.targets.evidence_writing import add_entry, cpu_name, emulator_name, entry_of
from handglass.targets.presets import aarch64, x86
from handglass.targets.table import all_targets, host_target

TESTS, ROOT = Path(__file__).parents[1] / "support", Path(__file__).parents[2]
HOSTS = ("vulkan-", *(level[0] for level in x86.LEVELS), *(level.cpu for level in aarch64.LEVELS))
"""Prefixes of the keys of detected targets: Target.records_key."""
ENTRY = Entry(
    what="answers of the demo model",
    by="test_x86_answers.py::test_answers",
    on="Some CPU @ 2 GHz",
    emulator=None,
    emulated_instructions=False,
    timed=False,
    date="2026-11-29",
    revision="2cfe43f",
)
EMULATED = replace(ENTRY, emulator="qemu-aarch64 7.2.22 -cpu cortex-a76")
PLAIN_C = replace(ENTRY, emulated_instructions=True)
TIMED = replace(ENTRY, what="speed", timed=True)


# --- reading ---


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for entry in (ENTRY, EMULATED, TIMED, replace(ENTRY, by=DIARY, revision=None)):
        add_entry("some-board", entry, tmp_path)
        assert entry in read_evidence("some-board", tmp_path).entries
    assert [file.name for file in tmp_path.iterdir()] == ["some-board.json"]


FAULTS: list[tuple[str, Any, str]] = [
    ("what", "", "what .*200"),
    ("what", "\x1b[2J", "what .*200"),
    ("what", "a" * 201, "what .*200"),
    ("what", 3, "what .*str"),
    ("on", " CPU", "on .*200"),
    ("on", None, "on .*str"),
    ("by", "make test", "by "),
    ("by", "tests/kernels/test_amx.py::test_bytes", "by "),
    ("by", "from the diary, I think", "by "),
    ("emulator", "two\nlines", "emulator .*200"),
    ("emulator", 7.2, "emulator .*str"),
    ("emulated_instructions", "no", "emulated_instructions .*bool"),
    ("timed", 1, "timed .*bool"),
    ("date", "yesterday", "date "),
    ("date", "2026-02-30", "date "),
    ("date", "20261129", "date "),
    ("revision", "main", "revision "),
    ("revision", "2CFE43F", "revision "),
    ("seconds", 3.0, "'seconds'"),
]


@pytest.mark.parametrize(("key", "value", "words"), FAULTS)
def test_refused_in_words(key: str, value: Any, words: str, tmp_path: Path) -> None:
    file = tmp_path / "some-board.json"
    file.write_text(json.dumps([asdict(ENTRY), {**asdict(TIMED), key: value}]))
    with pytest.raises(InputError, match=words) as refusal:
        read_evidence("some-board", tmp_path)
    assert str(refusal.value).startswith(f"{file}: entry 2: ")
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 600


@pytest.mark.parametrize("key", asdict(ENTRY))
def test_every_key_is_needed(key: str) -> None:
    data = {k: v for k, v in asdict(ENTRY).items() if k != key}
    with pytest.raises(InputError, match=f"'{key}'"):
        parse_evidence([data], "board.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ("[" * 9000, "JSON"),
        ("{}", "64"),
        ("[]", "64"),
        ("[3]", "object"),
        (json.dumps([asdict(ENTRY)] * 65), "64"),
        (json.dumps([asdict(ENTRY)] * 2), "two entries"),
        (" " * 70000, "65536"),
        (b"\xff", "JSON"),
    ],
)
def test_what_is_no_evidence(text: str | bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=words):
        read_evidence("b", tmp_path)


@pytest.mark.parametrize("entry", [EMULATED, PLAIN_C])
def test_an_emulator_tells_no_time(entry: Entry) -> None:
    with pytest.raises(InputError, match="timed"):
        parse_evidence([asdict(replace(entry, timed=True))], "board.json")


def test_a_name_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps([asdict(ENTRY)]))
    assert read_evidence("../" + tmp_path.name + "/b", tmp_path / "x") == Evidence()
    with pytest.raises(InputError, match=r"'\.\./b'"):
        add_entry("../b", ENTRY, tmp_path)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ((), "never run; not timed on hardware"),
        ((ENTRY, EMULATED), "ran; not timed on hardware"),
        ((ENTRY, TIMED), "ran; timed on hardware"),
        ((EMULATED,), "ran under emulation only; not timed on hardware"),
        ((PLAIN_C,), "ran only with its special instructions emulated in C; not timed on hardware"),
    ],
)
def test_in_one_line(entries: tuple[Entry, ...], text: str) -> None:
    assert str(Evidence(entries)) == text


# --- whose it is ---


def test_code_that_is_the_same_has_the_same_evidence() -> None:
    """A host has the evidence of the preset with the same LLVM settings."""
    from test_targets import HASWELL, machine

    targets = all_targets(machine(HASWELL))
    assert targets["host"].evidence == known_targets()["x86-64-v3"].evidence
    alone = host_target(machine(HASWELL + " avx_vnni"))
    assert alone is not None and alone.records_key == "x86-64-v3+avxvnni"
    assert alone.evidence == read_evidence("x86-64-v3+avxvnni") != targets["host"].evidence
    assert find_target("vulkan@arm64").evidence == known_targets()["vulkan"].evidence != Evidence()


def test_a_target_of_ones_own_has_none(tmp_path: Path) -> None:
    file = tmp_path / "board.json"
    file.write_text(json.dumps({"base": "x86-64-v3", "name": "x86-64-v2"}))
    assert find_target(str(file)).evidence == Evidence()


# --- what is shipped ---


def shipped() -> list[Path]:
    return sorted(FOLDER.glob("*"))


def test_there_is_some() -> None:
    assert len(shipped()) > 5


@pytest.mark.parametrize("file", shipped(), ids=lambda file: file.name)
def test_it_can_be_read_and_names_what_there_is(file: Path) -> None:
    assert file.suffix == ".json"
    name = file.stem
    assert name in known_targets() or name.startswith(HOSTS), "neither a preset nor a kind of host"
    for entry in read_evidence(name).entries:
        assert entry.date <= date.today().isoformat()
        if entry.by == DIARY:
            assert entry.date in diary(), "no such day"
        else:
            assert exists(entry.by), f"{entry.by}: there is no such test or benchmark"


def diary() -> str:
    return (ROOT / "docs" / "diary.md").read_text("utf-8")


def exists(by: str) -> bool:
    file, _, test = by.partition("::")
    there = [path for part in ("tests", "benchmarks") for path in (ROOT / part).rglob(file)]
    texts = [path.read_text("utf-8") for path in there]
    return any(not test or re.search(rf"^def {test}\(", text, re.MULTILINE) for text in texts)


def test_a_test_that_is_gone_would_be_found() -> None:
    assert exists("test_target_evidence.py::test_there_is_some")
    assert not exists("test_target_evidence.py::test_nothing") and not exists("test_nothing.py")


# --- the command ---


def test_a_bad_file_is_a_clear_error(
    handglass: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FOLDER, tmp_path / "evidence")
    (tmp_path / "evidence" / "arm64.json").write_text('[{"what": "everything"}]')
    from handglass.targets import target

    read = lambda name: read_evidence(name, tmp_path / "evidence")  # noqa: E731
    monkeypatch.setattr(target, "read_evidence", read)
    result = handglass("targets")
    assert result.code == InputError.exit_code
    assert re.search(r"arm64\.json: entry 1: key '\w+' is missing", result.err)
    assert "Traceback" not in result.err


def test_every_entry_is_shown(handglass: Any) -> None:
    out = re.sub(r"\s+", " ", handglass("targets").out)
    rows = {row["name"]: row for row in handglass("targets", "--json").json["targets"]}
    for name, row in rows.items():
        assert [Entry(**entry) for entry in row["evidence_entries"]] == list(
            known_targets()[name].evidence.entries
        )
        for entry in known_targets()[name].evidence.entries:
            assert f"- {entry}" in out
    assert "never run; not timed on hardware" in out


# --- writing ---


def test_it_is_read_from_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = "processor : 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n"
    monkeypatch.setattr(evidence_writing, "read", lambda path: cpuinfo)
    cpu_name.cache_clear()
    assert cpu_name().endswith(" (family 26, model 2)")
    monkeypatch.setattr(evidence_writing, "read", lambda path: "Features : fp\n")
    cpu_name.cache_clear()
    assert "family" not in cpu_name()
    cpu_name.cache_clear()


def test_an_emulator_tells_its_version(tmp_path: Path) -> None:
    program = tmp_path / "qemu-some"
    program.write_text("#!/bin/sh\necho 'qemu-some version 7.2.22 (Debian 1:7.2+dfsg)'\n")
    program.chmod(0o755)
    assert emulator_name([str(program), "-cpu", "max"]) == "qemu-some 7.2.22 -cpu max"
    program.write_text("#!/bin/sh\necho unknown\n")
    with pytest.raises(InputError, match="qemu-some"):
        emulator_name([str(program)])


def test_a_later_run_replaces_the_one_before(tmp_path: Path) -> None:
    old = replace(ENTRY, date="2026-11-25", revision=None)
    for entry in (old, TIMED, ENTRY):
        add_entry("b", entry, tmp_path)
    assert set(read_evidence("b", tmp_path).entries) == {ENTRY, TIMED}


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="by must"):
        entry_of("kernels", "tests/kernels/test_amx.py")
    with pytest.raises(InputError, match="timed"):
        entry_of("kernels", "test_amx.py", emulated_instructions=True, timed=True)
    assert entry_of("kernels", "test_amx.py").on == cpu_name()


NOTED = """
import pytest

@pytest.mark.parametrize("n", [1, 2])
def test_passes(evidence, n):
    evidence("passes", "kernels")

@pytest.fixture
def finds_a_fault():
    yield
    assert False, "found while it is torn down"

def test_is_torn_down(finds_a_fault, evidence):
    evidence("torn-down", "kernels")

def test_fails(evidence):
    evidence("fails", "kernels")
    assert False

def test_skips(evidence):
    evidence("skips", "kernels")
    pytest.skip("no device")

@pytest.mark.xfail(reason="known")
def test_xfails(evidence):
    evidence("xfails", "kernels")
    assert False

def test_says_nothing(evidence):
    pass

def test_is_wrong(evidence):
    evidence("wrong", "")
"""


def noted(tmp_path: Path, *options: str) -> tuple[str, list[str]]:
    """The output of pytest in a separate project, and the evidence files it wrote."""
    conftest = "from evidence_fixture import evidence, pytest_addoption, pytest_runtest_makereport"
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_noted.py").write_text(NOTED)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "test_noted.py"]
    command += ["--evidence-folder", str(tmp_path / "found"), *options]
    paths = ":".join([str(TESTS), str(ROOT)])
    environment = {"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    return done.stdout, sorted(p.name for p in (tmp_path / "found").glob("*"))


def test_only_what_passed_is_written(tmp_path: Path) -> None:
    out, files = noted(tmp_path, "--write-evidence")
    assert "4 passed, 1 skipped, 1 xfailed, 1 error" in out and "2 failed" in out
    assert "what must be 1 to 200 printable characters" in out
    assert files == ["passes.json"]
    (entry,) = read_evidence("passes", tmp_path / "found").entries
    assert entry.by == "test_noted.py::test_passes"
    assert (entry.on, entry.date) == (cpu_name(), date.today().isoformat())


def test_without_the_option_nothing_is(tmp_path: Path) -> None:
    out, files = noted(tmp_path)
    assert "4 passed" in out and files == []
