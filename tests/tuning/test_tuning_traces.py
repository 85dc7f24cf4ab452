"""A MetaSchedule database is data: only named choices are read, and nothing is replayed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="the tuner is part of the compiler")
import tvm
from fake_board import Board, Maker, by_panels
from lowered_demo import V3, four_bit_row

from handglass.compiler.lowering.tasks import Task
from handglass.compiler.records.lines import Refused
from handglass.compiler.tuning.database import TraceDatabase
from handglass.compiler.tuning.limits import Limits
from handglass.compiler.tuning.scheduler import Search, search
from handglass.compiler.tuning.space import choices_in, context_of, decided, module_of
from handglass.compiler.tuning.task_tuner import TaskTuner
from handglass.compiler.tuning.traces import RECORDS, WORKLOADS, read_database
from handglass.compiler.tuning.trials import TrialLog
from handglass.errors import DeviceError, InputError

pytestmark = pytest.mark.compiler

TARGET = tvm.target.Target(V3.tvm)
TIMES = {"p1": 9, "p2": 8, "p4": 10, "p8": 7}


@pytest.fixture(scope="module")
def task() -> Task:
    return four_bit_row()


@pytest.fixture
def folder(task: Task, tmp_path: Path) -> Path:
    """A database with two candidates, as TVM writes it."""
    written = TraceDatabase(tmp_path, {task.hash: context_of(task, V3, 1)}, TARGET)
    written.keep(task, {"panels": 8}, 2e-5)
    written.keep(task, {"panels": 1}, 1e-5)
    return tmp_path


@pytest.fixture
def run(task: Task, folder: Path) -> Callable[..., tuple[Search, TrialLog]]:
    def call(trials: int) -> tuple[Search, TrialLog]:
        log = TrialLog(folder / "trials.jsonl", "board")
        board: Any = Board(by_panels(**TIMES))
        tuner = TaskTuner(board, Maker(), log, Limits({}))  # type: ignore[arg-type]
        tuner.time_default(task)
        return search(tuner, [task], V3, trials, folder), log

    return call


def test_a_trace_is_its_choices(task: Task, folder: Path) -> None:
    for panels in (1, 2, 4, 8):
        sch = decided(module_of(task), {"panels": panels}, task)
        assert choices_in(sch.mod) == {"panels": panels}
    found = read_database(folder)
    assert [dict(r.choices) for r in found.records] == [{"panels": 8}, {"panels": 1}]
    assert [r.seconds for r in found.records] == [2e-5, 1e-5]
    assert found.refused == () and len(found.workloads) == 1


def test_what_others_found_is_measured_first(run: Any, task: Task) -> None:
    found, log = run(2)
    assert [dict(t.choices) for t in log.of(task.hash)] == [{"panels": 1}, {"panels": 8}]
    assert not found.refused and not found.failed


def test_the_database_is_written_anew_from_the_journal(run: Any, folder: Path) -> None:
    run(9)
    found = read_database(folder)
    times = {r.choices["panels"]: r.seconds for r in found.records}
    assert times == pytest.approx({4: 1e-5, 8: 0.7e-5, 1: 0.9e-5, 2: 0.8e-5})
    (folder / "trials.jsonl").unlink()
    run(1)
    assert len(read_database(folder).records) == 2  # the default and one trial


def instruction(kind: Any, *rest: Any) -> Callable[[Any], None]:
    inputs, attributes, outputs = rest or ([], [], [])
    return lambda line: line[1][0][0].append([kind, inputs, attributes, outputs])


def decision(value: Any) -> Callable[[Any], None]:
    return lambda line: line[1][0][1][0].__setitem__(1, value)


def values(options: Any) -> Callable[[Any], None]:
    return lambda line: line[1][0][0][1][2].__setitem__(0, options)


def times(found: Any) -> Callable[[Any], None]:
    return lambda line: line[1].__setitem__(1, found)


PRAGMA = instruction("Annotate", ["b0", '"evil.ll"'], ["pragma_import_llvm"], [])
HOSTILE = {
    "EnterPostproc": instruction("EnterPostproc"),
    "Tensorize": instruction("Tensorize", ["b0"], ["evil", True], []),
    "UnsafeSetDType": instruction("UnsafeSetDType", ["b0"], [0, "int8"], []),
    "GetLoops": instruction("GetLoops", ["b0"], [], ["l1"]),
    "\\x1b": instruction("\x1b[2J"),
    "['list']": instruction(["list"]),
    "pragma_import_llvm": PRAGMA,
    "'other' is not sampled": instruction("Annotate", ["b0", 4], ["handglass.choice.other"], []),
    "more than 256 instructions": lambda line: [instruction("GetSBlock")(line) for _ in range(300)],
    "4 is not an integer from 0 to 3": decision(4),
    "-1 is not an integer": decision(-1),
    "True is not an integer": decision(True),
    "None is not an integer": decision(None),
    "1.5 is not an integer": decision(1.5),
    "99999999": values([1, 2, 4, 99999999]),
    "'x' is not an integer": values([1, "x", "x", "x"]),
    "more than 256": values([1] * 257),
    "nan is not a time": times([float("nan")]),
    "0.0 is not a time": times([0]),
    "no times": times([]),
    "there is no workload 7": lambda line: line.__setitem__(0, 7),
    "not a tuning record": lambda line: line[1].pop(),
}


@pytest.mark.parametrize("words", HOSTILE)
def test_anything_but_named_choices_is_refused(
    words: str, run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is named, the others are read, and TVM replays no trace of the file."""
    first, second = (folder / RECORDS).read_text().splitlines()
    line = json.loads(first)
    HOSTILE[words](line)
    (folder / RECORDS).write_text(json.dumps(line) + "\n" + second + "\n")
    monkeypatch.setattr(tvm.s_tir.Trace, "apply_json_to_schedule", None)
    found, log = run(1)
    (refused,) = found.refused
    assert refused.line == 1 and words in refused.reason and refused.reason.isprintable()
    assert [dict(t.choices) for trials in log.trials.values() for t in trials] == [{"panels": 1}]
    assert "evil" not in (folder / RECORDS).read_text()


@pytest.mark.parametrize(
    "text",
    ["", "[", "[" * 15000, "{}", "null", "[0,[[[],[]],[1],{},[]]]", "9" * 6000, "x" * 20000],
    ids=range(8),
)
def test_no_line_ends_the_run(text: str, run: Any, folder: Path) -> None:
    (folder / RECORDS).write_text(text + "\n")
    found, _ = run(1)
    assert len(found.refused) <= 1
    for refused in found.refused:
        assert isinstance(refused, Refused) and refused.reason.isprintable()


def test_modules_are_never_parsed(run: Any, folder: Path, task: Task) -> None:
    """A workload is its hash; choices that its rule does not offer are not measured."""
    text = (folder / WORKLOADS).read_text()
    start = text.index('","') + 3
    (folder / WORKLOADS).write_text(text[:start] + "AAAA" * 100_000 + '"]\n')
    rows = (folder / RECORDS).read_text()
    (folder / RECORDS).write_text(rows.replace("[1,2,4,8]", "[3,5,7,9]", 1))
    _, log = run(1)
    assert [dict(t.choices) for t in log.of(task.hash)] == [{"panels": 1}]


def test_only_regular_files_are_read(run: Any, folder: Path) -> None:
    (folder / RECORDS).unlink()
    os.mkfifo(folder / RECORDS)
    with pytest.raises(InputError, match=f"{RECORDS}.*named pipe"):
        run(1)


def test_a_folder_that_cannot_be_written_is_one_line(task: Task, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match="file: cannot be written"):
        TraceDatabase(tmp_path / "file", {task.hash: context_of(task, V3, 1)}, TARGET)
