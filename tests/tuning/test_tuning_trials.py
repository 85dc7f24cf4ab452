"""The log of a work folder: measurements are read back, a damaged line affects only itself."""

import json
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the tuner is part of the compiler")

from handglass.compiler.tuning.trials import Trial, TrialLog, reasons

TASK = "a" * 64


def filled(path: Path) -> TrialLog:
    log = TrialLog(path, "board")
    log.add(TASK, Trial({"panels": 2}, 0.9, 1e-5))
    log.add(TASK, Trial({"panels": 8}, None, None, "runner: SIGILL"))
    return log


def test_trials_are_found_again(tmp_path: Path) -> None:
    written = filled(tmp_path / "t.jsonl")
    read = TrialLog(tmp_path / "t.jsonl", "board")
    assert read.of(TASK) == written.of(TASK)
    assert read.refused == 0


def test_another_device_measures_for_itself(tmp_path: Path) -> None:
    filled(tmp_path / "t.jsonl")
    other = TrialLog(tmp_path / "t.jsonl", "another board")
    assert other.of(TASK) == [] and other.refused == 0


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"format": "else"},
        {"ratio": "fast"},
        {"ratio": -1.0},
        {"ratio": float("nan")},
        {"ratio": None},
        {"choices": ["panels"]},
        {"choices": {"panels": None}},
        {"seconds": float("inf")},
    ],
    ids=str,
)
def test_a_damaged_line_costs_itself(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    filled(path)
    first, second = path.read_text().splitlines()
    path.write_text(json.dumps({**json.loads(first), **change}) + "\n" + second + "\n")
    log = TrialLog(path, "board")
    assert [trial.choices for trial in log.of(TASK)] == [{"panels": 8}]
    assert log.refused == 1


def test_a_line_torn_by_a_kill_costs_itself_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    filled(path)
    path.write_bytes(path.read_bytes()[:-20])
    log = TrialLog(path, "board")
    assert len(log.of(TASK)) == 1 and log.refused == 1
    log.add(TASK, Trial({"panels": 4}, 1.1, 2e-5))
    assert len(TrialLog(path, "board").of(TASK)) == 2


def test_a_histogram_names_what_went_wrong_most_often_first() -> None:
    failures = ["runner: SIGSEGV", "builder: no library after 60 s", "runner: SIGSEGV", ""]
    trials = [Trial({}, None if f else 1.0, None if f else 1.0, f) for f in failures]
    assert reasons(trials) == "2 x runner: SIGSEGV, 1 x builder: no library after 60 s"
