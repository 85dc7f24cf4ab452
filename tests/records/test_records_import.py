"""Importing records of others: only records verified on a device are kept."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="schedules functions")
from lowered_demo import CHECKPOINT, V3
from some_records import as_data, example, forged

from handglass.compiler.lowering.tasks import Task, extract_tasks
from handglass.compiler.records.journal import append, read
from handglass.compiler.records.record import Record
from handglass.compiler.tuning.importing import Outcome, Verdict, import_records
from handglass.compiler.tuning.tuning_input import CompileOptions, read_tuning_input
from handglass.errors import DeviceError

pytestmark = pytest.mark.compiler


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    tuning_input = read_tuning_input(CHECKPOINT, CompileOptions("x86-64-v3", context=256))
    return extract_tasks(tuning_input.mod, tuning_input.target, tuning_input.parts)


@pytest.fixture(scope="module")
def task(tasks: list[Task]) -> Task:
    """One row times a matrix of four bits."""
    one_row = [t for t in tasks if {"prefetch", "panels"} <= set(t.options)]
    return next(t for t in one_row if len(t.options["panels"]) > 3)


@pytest.fixture
def record(task: Task) -> Record:
    return example(task=task.hash, rule=task.rule.name, choices={"panels": 1})


class Judge:
    """A fake device with a fixed verdict, which notes the records it verified."""

    def __init__(self, ok: bool) -> None:
        self.verdict = Verdict(ok, "equal results" if ok else "wrong result")
        self.verified: list[Record] = []

    def __call__(self, record: Record, task: Task) -> Verdict:
        assert record.task == task.hash
        self.verified.append(record)
        return self.verdict


def bring(path: Path, records: list[Record]) -> Path:
    for one in records:
        append(path, one)
    return path


def test_what_is_proven_is_kept_and_only_once(
    tmp_path: Path, tasks: list[Task], record: Record
) -> None:
    file, journal, judge = bring(tmp_path / "theirs", [record]), tmp_path / "mine", Judge(True)
    (outcome,) = import_records([file], V3, tasks, judge, journal)
    assert outcome == Outcome(file, None, record, True, "equal results")
    assert read(journal) == ([record], [])
    (again,) = import_records([file], V3, tasks, judge, journal)
    assert (again.kept, again.words) == (False, "already present")
    assert judge.verified == [record]


def test_what_is_wrong_is_not_kept(tmp_path: Path, tasks: list[Task], record: Record) -> None:
    file, journal = bring(tmp_path / "theirs", [record]), tmp_path / "mine"
    (outcome,) = import_records([file], V3, tasks, Judge(False), journal)
    assert (outcome.kept, outcome.words) == (False, "wrong result")
    assert not journal.exists()


def test_what_cannot_be_verified_is_never_run(
    tmp_path: Path, tasks: list[Task], record: Record
) -> None:
    strangers = [
        replace(record, target="arm64"),
        replace(record, task="00" * 32),
        replace(record, choices={"panels": 1, "columns": 4}),
        replace(record, choices={"row_block": 4}),
    ]
    file, journal, judge = tmp_path / "theirs", tmp_path / "mine", Judge(True)
    for one in strangers:
        append(file, replace(one, device=replace(one.device, model=f"CPU {len(one.choices)}")))
    evil = {**as_data(record), "choices": {"pragma_import_llvm": 1}}
    with file.open("a") as lines:
        lines.write(forged(evil) + "\n")
    outcomes = list(import_records([file], V3, tasks, judge, journal))
    words = " ".join(outcome.words for outcome in outcomes)
    for part in ("'pragma_import_llvm'", "arm64", "no kernel", "'columns'", "'row_block'"):
        assert part in words
    assert not any(outcome.kept for outcome in outcomes)
    assert judge.verified == []
    assert not journal.exists()


def test_a_device_that_is_gone_ends_it(tmp_path: Path, tasks: list[Task], record: Record) -> None:
    def nobody(record: Record, task: Task) -> Verdict:
        raise DeviceError("the device is gone")

    file, journal = bring(tmp_path / "theirs", [record]), tmp_path / "mine"
    with pytest.raises(DeviceError, match="gone"):
        list(import_records([file], V3, tasks, nobody, journal))
    assert not journal.exists()


@pytest.mark.slow
def test_on_this_machine(tmp_path: Path, tasks: list[Task], task: Task, record: Record) -> None:
    """Without fakes: both kernels are built, run and compared."""
    from handglass.compiler.tuning.verify_record import record_verifier
    from handglass.runtime.remote.client import DeviceClient
    from handglass.runtime.remote.local import local_device
    from handglass.runtime.system.hardware import read_machine

    if V3.missing_on(read_machine().flags):
        pytest.skip("this machine lacks AVX2")
    file, journal = bring(tmp_path / "theirs", [record]), tmp_path / "mine"
    with (
        local_device(1) as endpoint,
        record_verifier(lambda: DeviceClient(*endpoint), V3, [task]) as verify,
    ):
        (outcome,) = import_records([file], V3, tasks, verify, journal)
    assert outcome.kept
    assert outcome.words == "equal results, lengths compared: 1"
    assert read(journal).records == [record]


def test_every_kind_of_outcome_has_a_line(record: Record) -> None:
    from handglass.cli.records_import import as_json, as_text

    refused = Outcome(Path("a"), 3, None, False, "not UTF-8")
    assert as_text(refused) == "a:3: refused: not UTF-8"
    kept = Outcome(Path("a"), None, record, True, "equal results")
    assert as_text(kept).startswith(f"{record.id[:12]} fused_matmul_add (dot4, scaled): kept: ")
    assert as_json(kept)["record"] == record.id
