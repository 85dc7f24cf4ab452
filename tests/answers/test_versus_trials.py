"""The first round of the comparison: what is tried, what is kept, and which configurations win."""

from math import inf
from pathlib import Path
from typing import Any

import pytest
from versus_peers import Configuration, Peer, PeerError
from versus_trials import Trial, Trials, candidates, choose, expected, fitting, least

FAST_EYE = Configuration("", "bf16", "f32")
FAST_DECODER = Configuration("", "f32", "int4")
SLEEPING = Configuration("sleeps", "f32", "int4")


def trial(configuration: Configuration, encode: float, token: float, **more: float) -> Trial:
    return Trial(configuration, {"encode": encode, "pp64": 1.0, "tg64@0": token, **more})


def test_the_tower_of_one_and_the_decoder_of_another_are_joined() -> None:
    trials = [trial(FAST_EYE, 1.0, 8.0), trial(FAST_DECODER, 4.0, 2.0)]
    both = Configuration("", "bf16", "int4")
    assert set(candidates(trials)) == {
        FAST_EYE,
        FAST_DECODER,
        both,
        Configuration("", "f32", "f32"),
    }
    assert expected(trials, both, "answer") == 1.0 + 1.0 + 2.0
    assert choose(trials, ["encode", "tg64@0", "answer"]) == dict.fromkeys(
        ("encode", "tg64@0", "answer"), both
    )


def test_processes_of_different_kinds_are_not_joined() -> None:
    trials = [trial(FAST_EYE, 1.0, 8.0), trial(SLEEPING, 4.0, 2.0)]
    assert set(candidates(trials)) == {FAST_EYE, SLEEPING}
    assert choose(trials, ["encode", "tg64@0"]) == {"encode": FAST_EYE, "tg64@0": SLEEPING}


def test_a_row_that_is_not_tried_follows_one_that_is() -> None:
    trials = [trial(FAST_EYE, 1.0, 8.0, **{"tg64@512": 9.0})]
    assert expected(trials, FAST_EYE, "tg64@2048") == 9.0
    assert choose(trials, ["tg64@2048", "tg64@0"])["tg64@2048"] == FAST_EYE


def test_a_busy_picture_depends_on_the_tower_only() -> None:
    trials = [trial(FAST_EYE, 1.0, 8.0, **{"busy encode": 2.0})]
    assert expected(trials, Configuration("", "bf16", "other"), "busy encode") == 2.0
    assert expected(trials, Configuration("", "other", "f32"), "busy encode") == inf


def test_a_further_process_must_gain_something() -> None:
    trials = [trial(FAST_EYE, 1.0, 2.0), trial(SLEEPING, 4.0, 1.99)]
    assert choose(trials, ["encode", "tg64@0"]) == dict.fromkeys(("encode", "tg64@0"), FAST_EYE)


def test_only_few_processes_are_awake() -> None:
    kinds = [Configuration(name) for name in "abc"]
    rows = ("encode", "pp64", "tg64@0")
    trials = [
        Trial(one, {row: 1.0 if row == rows[place] else 2.0 + place for row in rows})
        for place, one in enumerate(kinds)
    ]
    assert len(set(choose(trials, rows, most=3).values())) == 3
    assert len(set(choose(trials, rows, most=2).values())) == 2


def test_only_as_many_processes_as_memory_holds() -> None:
    rows = ("encode", "tg64@0")
    eye = Trial(FAST_EYE, {"encode": 1.0, "tg64@0": 4.0}, peak_bytes=6)
    sleeping = Trial(SLEEPING, {"encode": 9.0, "tg64@0": 2.0}, peak_bytes=5)
    trials = {"one": [eye, sleeping], "other": [], "third": [eye]}
    assert fitting(trials, rows, 17)["one"] == {"encode": FAST_EYE, "tg64@0": SLEEPING}
    few = fitting(trials, rows, 16)
    assert few["one"] == few["third"] == dict.fromkeys(rows, FAST_EYE)
    assert few["other"] == {}


def test_a_row_that_nothing_ran_has_no_configuration() -> None:
    assert choose([Trial(FAST_EYE, {"pp64": 1.0})], ["encode", "pp64", "answer"]) == {
        "pp64": FAST_EYE
    }
    assert choose([Trial(FAST_EYE, failed="no compiler")], ["pp64"]) == {}


class Fake:
    """A worker that takes known seconds, or ends."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        self._seconds, self.closed = seconds, False

    def can(self, row: str) -> bool:
        return row in self._seconds

    def seconds(self, row: str) -> float:
        if not self._seconds[row]:
            raise PeerError("it ended: illegal instruction")
        return self._seconds[row].pop(0)

    def peak_bytes(self) -> int:
        return 7

    def close(self) -> None:
        self.closed = True


def test_an_interrupted_round_goes_on(tmp_path: Path) -> None:
    peer = Peer("fake", "", "", tried=(FAST_EYE, FAST_DECODER, SLEEPING))
    workers = {
        FAST_EYE: Fake({"encode": [3.0, 2.0], "busy encode": [5.0]}),
        FAST_DECODER: Fake({"encode": [1.0], "busy encode": []}),
    }

    def start(configuration: Configuration) -> Any:
        if configuration in workers:
            return workers[configuration]
        raise KeyboardInterrupt

    rows = ("encode", "pp64", "busy encode")
    path = tmp_path / "trials.jsonl"
    with pytest.raises(KeyboardInterrupt):
        Trials(path).complete(peer, start, rows)
    assert Trials(path).all[1].failed == "it ended: illegal instruction"
    assert all(worker.closed for worker in workers.values())

    def again(configuration: Configuration) -> Any:
        assert configuration != FAST_EYE, "what ran is not run again"
        raise PeerError("no compiler is installed")

    trials = Trials(path)
    trials.complete(peer, again, rows)
    first, second, third = Trials(path).all
    assert first == Trial(FAST_EYE, {"encode": 2.0, "pp64": inf, "busy encode": 5.0}, 7)
    assert (second.configuration, second.failed) == (FAST_DECODER, "no compiler is installed")
    assert (third.configuration, third.failed) == (SLEEPING, "no compiler is installed")
    assert Trials(path).ran() == [first]


def test_rows_that_are_asked_for_later_are_added(tmp_path: Path) -> None:
    peer = Peer("fake", "", "", tried=(FAST_EYE,))
    path, worker = tmp_path / "trials.jsonl", Fake({"encode": [3.0, 2.0], "busy encode": [5.0]})
    Trials(path).complete(peer, lambda one: worker, ("encode",))  # type: ignore[arg-type,return-value]
    Trials(path).complete(peer, lambda one: worker, ("encode", "busy encode"))  # type: ignore[arg-type,return-value]
    assert Trials(path).all == [Trial(FAST_EYE, {"encode": 2.0, "busy encode": 5.0}, 7)]


def test_a_long_row_runs_once() -> None:
    assert least(Fake({"pp512": [9.0, 8.0]}), "pp512") == 9.0  # type: ignore[arg-type]
    assert least(Fake({"pp512": [2.0, 1.0]}), "pp512") == 1.0  # type: ignore[arg-type]
