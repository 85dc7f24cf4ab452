"""The search over choices: no repeats, all of a small space, better than random otherwise."""

import math
import random

import pytest

pytest.importorskip("tvm", reason="the tuner is part of the compiler")

from handglass.compiler.tuning import search as module
from handglass.compiler.tuning.search import Search

LARGE: dict[str, tuple[int, ...]] = {f"c{i}": (1, 2, 4, 8) for i in range(6)}


def cost(choices: dict[str, int]) -> float:
    """A bowl with its minimum at 4 for every choice except c5, which hardly matters."""
    distance = sum(abs(math.log2(choices[f"c{i}"]) - 2) for i in range(5))
    return 0.5 + 0.2 * distance + 0.01 * choices["c5"]


def run(options: dict[str, tuple[int, ...]], count: int, seed: int = 0) -> list[float]:
    search = Search(options, seed)
    found: list[float] = []
    while len(found) < count and (batch := search.propose(min(8, count - len(found)))):
        for choices in batch:
            assert not search.knows(choices)
            found.append(cost({**dict.fromkeys(LARGE, 1), **choices}))
            search.tell(choices, found[-1])
    return found


def test_a_small_space_is_measured_whole_and_no_more() -> None:
    found = run({"c0": (1, 2, 4), "c1": (1, 8)}, 100)
    assert len(found) == 6


def test_trees_find_more_than_chance() -> None:
    pytest.importorskip("xgboost")
    everything = sorted(run(LARGE, 4**6))
    for seed in range(3):
        assert min(run(LARGE, 64, seed)) <= everything[len(everything) // 500]


def test_without_xgboost_it_is_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert Search(LARGE).model == "random"
    found = run(LARGE, 64)
    assert len(found) == 64 and min(found) < sum(found) / 64


def test_what_cannot_run_is_not_proposed_again_and_its_kind_is_avoided() -> None:
    pytest.importorskip("xgboost")
    search, draw = Search(LARGE, 1), random.Random(0)
    for _ in range(200):
        choices = {name: draw.choice(values) for name, values in LARGE.items()}
        search.tell(choices, None if choices["c0"] == 8 else cost(choices))
    proposed = search.propose(32)
    assert not any(search.knows(choices) for choices in proposed)
    assert sum(choices["c0"] == 8 for choices in proposed[:24]) == 0


def test_a_space_beyond_the_pool_keeps_to_offered_values() -> None:
    options = {f"c{i}": (1, 2, 3, 4, 6, 12) for i in range(8)}
    search = Search(options)
    for choices in search.propose(8):
        search.tell(choices, 1.0)
    assert all(choices.keys() == options.keys() for choices in search.propose(50))
    assert all(v in options[n] for choices in search.propose(50) for n, v in choices.items())
