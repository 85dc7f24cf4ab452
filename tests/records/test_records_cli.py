"""`handglass records list`, `check`, `export`, and what `compile` does with a file of records."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="the rules define the choices")
from some_records import RECORD, as_data, example, forged, timed

from handglass.compiler.lowering.tasks import extract_tasks
from handglass.compiler.records import store
from handglass.compiler.records.journal import append, read
from handglass.compiler.records.store import own_file
from handglass.compiler.tuning.tuning_input import CompileOptions, read_tuning_input
from handglass.targets import find_target

pytestmark = pytest.mark.compiler

V3, ARM = find_target("x86-64-v3"), find_target("arm64")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder and the shipped one, both empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(store, "SHIPPED_FOLDER", tmp_path / "shipped")
    return tmp_path


def test_nothing_to_list(handglass: Any) -> None:
    assert "handglass tune" in handglass("records", "list").out
    assert "for arm64" in handglass("records", "list", "--target", "arm64").out
    assert handglass("records", "list", "--json").json == {"records": []}


def test_list(handglass: Any) -> None:
    append(own_file(V3.name), RECORD)
    counted = example(target="arm64", measure="instructions")
    append(store.shipped_file(ARM), counted)
    lines = [" ".join(line.split()) for line in handglass("records", "list").out.splitlines()]
    assert lines[0].split()[:3] == ["TARGET", "WHOSE", "RECORD"]
    assert lines[1].split()[:3] == ["arm64", "handglass", counted.id[:12]]
    assert " 2.00x in instructions 2026-11-25 " in lines[1]
    assert lines[2].split()[:2] == ["x86-64-v3", "own"]
    assert "fused_matmul_add (dot4, scaled) panels=2 2.00x 2026-11-25" in lines[2]
    only = handglass("records", "list", "--target", "x86-64-v3", "--json").json["records"]
    assert [(r["id"], r["whose"], r["gain"]) for r in only] == [(RECORD.id, "own", RECORD.gain)]


def test_check(handglass: Any, folders: Path) -> None:
    good, bad = folders / "good.jsonl", folders / "bad.jsonl"
    append(good, timed(1e-3))
    append(good, timed(2e-3))
    result = handglass("records", "check", good)
    assert (result.code, result.out) == (0, f"{good}: 2 records, 0 lines refused\n")
    evil = forged({**as_data(), "pragma_import_llvm": "define void @f()"})
    bad.write_text(f"{RECORD.text()}\n{evil}\n")
    result = handglass("records", "check", good, bad)
    assert result.code == 3
    assert f"{bad}:2: " in result.out and "'pragma_import_llvm'" in result.out
    assert f"{bad}: 1 records, 1 lines refused\n" in result.out
    result = handglass("records", "check", bad, "--json")
    assert result.code == 3
    (file,) = result.json["files"]
    assert (file["records"], file["refused"][0]["line"]) == (1, 2)


def test_check_of_no_file(handglass: Any, folders: Path) -> None:
    result = handglass("records", "check", folders / "nothing.jsonl")
    assert result.code == 3
    assert "nothing.jsonl" in result.err


def test_export(handglass: Any, folders: Path) -> None:
    output = folders / "mine.jsonl"
    result = handglass("records", "export", "--target", "x86-64-v3", "-o", output)
    assert result.code == 3
    assert "x86-64-v3" in result.err
    for record in (timed(1e-3), timed(2e-3)):
        append(own_file(V3.name), record)
    with own_file(V3.name).open("a") as file:
        file.write("torn")
    result = handglass("records", "export", "--target", "x86-64-v3", "-o", output)
    assert (result.code, result.out) == (0, f"{output}: 1 records for x86-64-v3\n")
    assert read(output) == ([timed(1e-3)], [])
    again = handglass("records", "export", "--target", "x86-64-v3", "-o", output)
    assert again.code == 2
    replaced = handglass(
        *("records", "export", "--target", "x86-64-v3", "-o", output, "--overwrite", "--json")
    )
    assert replaced.json == {"file": str(output), "target": "x86-64-v3", "records": 1}
    assert list(folders.glob(".*.part")) == []


def test_compile_names_a_file_that_is_not_there(
    handglass: Any, folders: Path, small_checkpoint: Path
) -> None:
    result = handglass(
        *("compile", "-m", small_checkpoint, "-o", folders / "out"),
        *("--records", folders / "nothing.jsonl"),
    )
    assert result.code == 3
    assert "nothing.jsonl: " in result.err
    assert not (folders / "out").exists()


@pytest.mark.slow
def test_compile_with_a_file_of_records(
    handglass: Any, folders: Path, small_checkpoint: Path
) -> None:
    """One that fits, a newer one that does not, and a torn line."""
    tuning_input = read_tuning_input(
        small_checkpoint, CompileOptions("x86-64-v3", quantization="f32", context=64)
    )
    tasks = extract_tasks(tuning_input.mod, tuning_input.target, tuning_input.parts)
    task = next(task for task in tasks if task.defaults.get("panels", 1) > 1)
    choices = {**task.defaults, "panels": 1}
    record = example(task=task.hash, rule=task.rule.name, choices=choices)
    other = replace(record.device, model="Another CPU")
    wrong = replace(record, choices={"panels": 1, "row_block": 4}, device=other)
    file = folders / "records.jsonl"
    for line in (record, replace(wrong, date="2026-12-01T00:00:00Z")):
        append(file, line)
    with file.open("a") as lines:
        lines.write("torn\n")
    flags = ("--target", "x86-64-v3", "--quantization", "f32", "-c", "64", "--no-runtime")
    command = ("compile", "-m", small_checkpoint, "-o", folders / "out", *flags)
    found = handglass(*command, "--records", file, "--json").json["records"]
    (used,) = [kernel for kernel in found["kernels"] if kernel["record"]]
    assert (used["function"], used["record"]) == (task.name, record.id)
    assert used["choices"] == choices
    assert len(found["skipped"]) == 1
    assert "'row_block'" in found["skipped"][0]["reason"]
    assert [line["line"] for line in found["refused"]] == [3]
    assert found["line"].startswith("records: 1 of ")
    report = json.loads((folders / "out" / "report.json").read_text("utf-8"))
    assert report["records"] == found
    (row,) = [kernel for kernel in report["kernels"] if kernel["record"]]
    assert (row["function"], row["choices"]) == (task.name, choices)
