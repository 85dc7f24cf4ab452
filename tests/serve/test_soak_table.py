"""The soak's table: what is lost, or grows, fails it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soak_all
from soak_killed import Killed
from soak_serve import SLACK_BYTES


def run(monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr("sys.argv", ["soak_all.py", "bundle", *flags])
    return soak_all.main()


@pytest.fixture
def flight(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = SimpleNamespace(
        most_waiting=50, refused=3, answered=800, lost=[], resident=[100 << 20] * 4, count=200
    )
    monkeypatch.setattr(soak_all, "flown", lambda *_: found)
    return found


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Killed:
    found = Killed("compile", 3, 2)
    for name in ("kill_compile", "kill_tune", "kill_save"):
        monkeypatch.setattr(soak_all, name, lambda *_: found)
    return found


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {
        "lost": 0,
        "different": 0,
        "answers": 9,
        "left": 2,
        "pictures": 5,
        "tokens": 50,
    }
    found |= {"grown_mb": 0.5, "ok": True}
    monkeypatch.setattr(soak_all, "soaked", lambda *_: found)
    return found


def test_nothing_lost(
    flight: Any, kills: Killed, served: Any, monkeypatch: Any, capsys: Any
) -> None:
    assert run(monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["WHAT", "DONE", "LOST", "MEMORY"]
    assert [line.split()[0] for line in lines[1:6]] == ["serve", "in", *["kill"] * 3]
    assert lines[-1] == "nothing was lost"


def test_a_kill_that_loses_something(kills: Killed, monkeypatch: Any, capsys: Any) -> None:
    kills.check(False, "the bundle is gone")
    assert run(monkeypatch, "--pictures", "0", "--in-flight", "0") == 1
    out = capsys.readouterr().out
    assert "compile: kill 3: the bundle is gone" in out and out.endswith("FAILED\n")


def test_memory_that_grows(flight: Any, monkeypatch: Any) -> None:
    only = ("--pictures", "0", "--kills", "0")
    assert run(monkeypatch, *only) == 0
    flight.resident[-1] += SLACK_BYTES + flight.count * soak_all.HELD_BYTES + 1
    assert run(monkeypatch, *only) == 1


@pytest.mark.parametrize("name", ["lost", "different"])
def test_an_answer_that_is_lost(name: str, served: dict[str, Any], monkeypatch: Any) -> None:
    served[name] = 1
    assert run(monkeypatch, "--in-flight", "0", "--kills", "0") == 1


def test_lines_that_are_gone(tmp_path: Path) -> None:
    from soak_killed import _check_journals

    (tmp_path / "trials.jsonl").write_text('{"a": 1}\n\n{"b": 2}\n{"cut')
    found = Killed("tune")
    before = _check_journals(found, tmp_path, {})
    assert found.lost == [] and len(before["trials.jsonl"]) == 3
    (tmp_path / "trials.jsonl").write_text('{"a": 1}\n{"b": 3}\nno object\n')
    _check_journals(found, tmp_path, before)
    assert [text.split(": ")[-1] for text in found.lost] == [
        "trials.jsonl lost lines",
        "trials.jsonl has 1 lines that cannot be read",
    ]
