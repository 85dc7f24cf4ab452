"""Token selection: each filter against a simple loop, the draw against its probabilities."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from handglass.errors import DeviceError, UsageError
from handglass.runtime.answer.sampler import Sampler, Sampling, penalise, softmax, top_k, top_p

RANDOM = np.random.default_rng(11)


def logits(n: int = 37) -> np.ndarray:
    return RANDOM.normal(scale=3, size=n).astype(np.float32)


def test_greedy_takes_the_first_of_the_best() -> None:
    x = np.array([1, 5, 5, -2], np.float32)
    assert Sampler(Sampling())(x, []) == 1
    assert Sampler(Sampling(temp=0, top_k=3, top_p=0.1, seed=1))(x, []) == 1


@pytest.mark.parametrize("penalty", [1.0, 1.05, 1.3, 0.7])
def test_the_penalty_divides_positive_and_multiplies_negative_scores(penalty: float) -> None:
    x = logits().astype(np.float64)
    generated = [3, 3, 9, 30, 31]
    x[[3, 9, 30, 31]] = 0.5, -0.5, 4, -4
    expected = x.copy()
    for i in set(generated):
        expected[i] = x[i] / penalty if x[i] > 0 else x[i] * penalty
    before = x.copy()
    assert np.allclose(penalise(x, generated, penalty), expected, rtol=1e-12)
    assert np.array_equal(x, before)
    assert np.array_equal(penalise(x, [], penalty), x)


def test_the_penalty_counts_in_greedy_choice() -> None:
    x = np.array([4.0, 3.9, 0], np.float32)
    assert Sampler(Sampling(repeat_penalty=1.2))(x, []) == 0
    assert Sampler(Sampling(repeat_penalty=1.2))(x, [0]) == 1


@pytest.mark.parametrize("k", [1, 2, 5, 36, 37, 100])
def test_top_k_keeps_the_k_best(k: int) -> None:
    x = logits().astype(np.float64)
    assert set(top_k(x, k)) == set(np.argsort(-x)[:k])


def test_top_p_stops_as_soon_as_p_is_held() -> None:
    assert top_p(np.array([0.25, 0.5, 0.25]), 0.5).tolist() == [1]
    assert top_p(np.array([0.25, 0.5, 0.25]), 0.75).tolist() == [1, 0]
    assert top_p(np.array([0.25, 0.5, 0.25]), 0.76).tolist() == [1, 0, 2]


@pytest.mark.parametrize("p", [0.01, 0.5, 0.99])
def test_top_p_of_a_flat_distribution(p: float) -> None:
    kept = top_p(np.full(1000, 1 / 1000), p)
    assert abs(len(kept) - 1000 * p) <= 1 and len(set(kept)) == len(kept)


def test_top_k_keeps_ties() -> None:
    assert top_k(np.array([1.0, 2, 2, 2, 0]), 2).tolist() == [1, 2, 3]


@pytest.mark.parametrize("p", [1e-9, 0.1, 0.5, 0.9, 0.999999, 1.0])
def test_top_p_keeps_the_smallest_set_that_holds_p(p: float) -> None:
    for _ in range(10):
        weights = softmax(logits().astype(np.float64))
        expected: list[int] = []
        for i in np.argsort(-weights):
            if sum(weights[expected]) >= p:
                break
            expected.append(int(i))
        assert set(top_p(weights, p)) == set(expected)
        assert expected


def draw(sampling: Sampling, x: np.ndarray, n: int = 4000, generated: Any = ()) -> np.ndarray:
    sampler = Sampler(sampling)
    counts = np.bincount([sampler(x, generated) for _ in range(n)], minlength=len(x))
    return counts / n


@pytest.mark.parametrize("temp", [0.5, 1.0, 2.0])
def test_draws_follow_the_tempered_softmax(temp: float) -> None:
    x = logits(9)
    expected = softmax(x.astype(np.float64) / temp)
    assert abs(draw(Sampling(temp=temp, seed=4), x) - expected).max() < 0.03


def test_the_filters_come_in_the_order_of_the_reference() -> None:
    x, generated = logits(12), [int(logits(12).argmax()), 4]
    x[generated[0]] = 8
    sampling = Sampling(temp=0.7, top_k=5, top_p=0.8, repeat_penalty=1.5, seed=2)
    scores = penalise(x.astype(np.float64), generated, 1.5) / 0.7
    best = top_k(scores, 5)
    weights = softmax(scores[best])
    nucleus = top_p(weights, 0.8)
    expected = np.zeros(len(x))
    expected[best[nucleus]] = weights[nucleus] / weights[nucleus].sum()
    seen = draw(sampling, x, generated=generated)
    assert abs(seen - expected).max() < 0.03
    assert set(np.flatnonzero(seen)) <= set(np.flatnonzero(expected))


def test_torch_and_transformers_order_agree_on_a_worked_case() -> None:
    """Worked by hand: tokens 0 and 1 are penalized, top_k 2 keeps 2 and 0, top_p 0.6 keeps 2."""
    x = np.array([3.0, -1.0, 2.5, 0.0], np.float32)  # -> 2.0, -1.5, 2.5, 0 at penalty 1.5
    sampling = Sampling(temp=1, top_k=2, top_p=0.6, repeat_penalty=1.5, seed=0)
    assert {Sampler(sampling)(x, [0, 1]) for _ in range(50)} == {2}
    wider = Sampling(temp=1, top_k=2, top_p=0.63, repeat_penalty=1.5, seed=0)
    assert set(np.flatnonzero(draw(wider, x, 200, [0, 1]))) == {0, 2}


def test_the_same_seed_draws_the_same_and_no_seed_does_not() -> None:
    x = np.zeros(1000, np.float32)

    def ten(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temp=1, seed=seed))
        return [sampler(x, []) for _ in range(10)]

    assert ten(5) == ten(5) != ten(6)
    assert ten(None) != ten(None)


def test_the_last_draw_is_still_a_token() -> None:
    sampler = Sampler(Sampling(temp=1))
    sampler._random = SimpleNamespace(random=lambda: 1.0)  # type: ignore[assignment]
    assert sampler(np.zeros(7, np.float32), []) == 6


@pytest.mark.parametrize("temp", [1e-300, 1e-30, 1e30])
def test_extreme_temperatures_stay_finite(temp: float) -> None:
    x = np.array([1e30, 3e38, -3e38], np.float32)
    assert Sampler(Sampling(temp=temp, seed=0))(x, []) in (0, 1, 2)
    if temp < 1:
        assert Sampler(Sampling(temp=temp, seed=0))(x, []) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temp", [0.0, 0.8])
def test_values_that_are_not_numbers_are_a_device_error(bad: float, temp: float) -> None:
    x = logits()
    x[17] = bad
    with pytest.raises(DeviceError, match="NaN"):
        Sampler(Sampling(temp=temp))(x, [])


WRONG = [
    ("temp", -0.1), ("temp", math.nan), ("temp", math.inf), ("temp", "1"), ("temp", None),
    ("top_k", -1), ("top_k", 1.5), ("top_k", True), ("top_k", "3"),
    ("top_p", 0), ("top_p", -0.1), ("top_p", 1.01), ("top_p", math.nan), ("top_p", True),
    ("repeat_penalty", 0), ("repeat_penalty", -1), ("repeat_penalty", math.inf),
    ("seed", -1), ("seed", 0.5), ("seed", "x"), ("seed", True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_impossible_options_are_usage_errors(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name}=") as caught:
        Sampling(**{name: value})
    assert repr(value) in str(caught.value)


def test_numpy_numbers_are_numbers() -> None:
    Sampling(temp=np.float32(0.5), top_k=np.int64(3), top_p=1, seed=np.int32(4))  # type: ignore[arg-type]
