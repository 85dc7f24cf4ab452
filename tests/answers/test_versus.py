"""The comparison with other engines: ratios within a round, and workers that run on request."""

import json
from pathlib import Path
from typing import Any

import pytest
from versus import as_text, measure, ratios
from versus_peers import Peer, PeerError, Worker

FAKE = """
import time
from versus_worker import Task, serve

print("noise while it is imported")
task = Task.read()
assert task.config == {"hidden_size": 8} and task.threads == 2 and task.folder.is_dir()
counts = {"encode": 0}

def encode():
    counts["encode"] += 1
    print("noise that a library prints")
    return float(counts["encode"])

def pp64():
    raise SystemExit("this engine cannot do it")

serve({"name": "fake", "word": task.words[0]}, {"pp64": pp64, "encode": encode})
"""


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    """A worker process in the current environment."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    config = tmp_path / "shape" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"hidden_size": 8}))
    peer = Peer("fake", str(script), "", words=("word",))
    worker = Worker(peer, tmp_path, config, 2)
    yield worker
    worker.close()


def test_a_worker_says_what_it_is_and_runs_what_it_is_told(worker: Worker) -> None:
    assert worker.about == {"name": "fake", "word": "word"}
    assert list(worker.rows) == ["encode", "pp64"], "in the order of the table"
    assert worker.seconds("encode") == 2.0, "the first run warms up"
    assert worker.seconds("encode") == 3.0


def test_a_worker_that_ends_says_why(worker: Worker) -> None:
    with pytest.raises(PeerError, match="fake .*1: "):
        worker.seconds("pp64")


class Scripted:
    """An engine whose seconds are known."""

    def __init__(self, name: str, rows: tuple[str, ...], seconds: list[float], log: list) -> None:
        self.name, self.rows, self._seconds, self._log = name, rows, iter(seconds), log

    def seconds(self, row: str) -> float:
        self._log.append((row, self.name))
        return next(self._seconds)


def test_rounds_are_interleaved_and_take_turns() -> None:
    log: list = []
    ours = Scripted("handglass", ("encode", "pp64"), [1.0, 2.0, 3.0, 4.0], log)
    theirs = Scripted("other", ("encode",), [2.0, 9.0], log)
    seconds: dict = {row: {"handglass": [], "other": []} for row in ("encode", "pp64")}
    measure([ours, theirs], ["encode", "pp64"], 2, seconds)  # type: ignore[list-item]
    assert log == [
        *(("encode", "handglass"), ("encode", "other"), ("pp64", "handglass")),
        *(("encode", "other"), ("encode", "handglass"), ("pp64", "handglass")),
    ]
    assert seconds["encode"] == {"handglass": [1.0, 3.0], "other": [2.0, 9.0]}


def test_a_ratio_is_of_one_round() -> None:
    seconds = {"encode": {"handglass": [1.0, 2.0, 4.0], "other": [2.0, 6.0, 4.0]}}
    measured, missing = ratios(seconds, {"third": "no wheel for it"})
    assert measured["ratio"] == {"min": 1.0, "median": 2.0, "p90": pytest.approx(2.8)}
    assert measured["ours_s"]["median"] == 2.0 and measured["theirs_s"]["median"] == 4.0
    assert missing["ratio"] is None and missing["note"] == "no wheel for it"


def test_an_interrupted_round_does_not_count() -> None:
    seconds: dict = {"encode": {"handglass": [1.0, 2.0], "other": [3.0]}, "pp64": {"handglass": []}}
    (found,) = ratios(seconds, {})
    assert found["ratio"]["median"] == 3.0


def test_text() -> None:
    seconds = {"tg64@0": {"handglass": [2.0], "other": [3.0]}}
    engine = {"name": "other", "version": "1", "weights": "int4", "cache": "f16", "threads": 2}
    report = {
        "device": "a machine",
        "date": "2026-01-01",
        "revision": "abc",
        "samples": 1,
        "engines": [{**engine, "wait": "sleeps"}],
        "rows": ratios(seconds, {"third": "no wheel"}),
    }
    text = as_text(report)
    assert "| tg64@0 | other | 1.50 | 1.50 | 1.50 | 2 | 3 |" in text
    assert "not measured: no wheel" in text
    assert "sleeps" in text and "2 threads" in text
