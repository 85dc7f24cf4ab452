"""Ratios on a machine whose speed drifts during measurement."""

from collections.abc import Iterator, Sequence

import pytest

pytest.importorskip("tvm", reason="the tuner is part of the compiler")

from handglass.compiler.tuning.drift import REPEATS, Anchor


class Clockwork:
    """A runner whose default takes the listed times, one per measurement; then the last one."""

    def __init__(self, times: Sequence[float]) -> None:
        self.times: Iterator[float] = iter(times)
        self.last = 1.0

    def calls_for(self, library: bytes) -> int:
        return 3

    def seconds(self, library: bytes, number: int, samples: int) -> list[float]:
        assert (library, number) == (b"default", 3)
        self.last = next(self.times, self.last)
        return [self.last] * samples


def anchor(*times: float) -> Anchor:
    return Anchor(Clockwork(times), b"default", sleep=lambda seconds: None)  # type: ignore[arg-type]


def test_a_candidate_counts_as_a_ratio_to_the_default_around_it() -> None:
    reading = anchor(2.0, 2.1).around(lambda: [1.0, 1.0, 1.2])
    assert reading.stable
    assert reading.ratio == pytest.approx(1.0 / 2.05)


def test_a_machine_twice_as_slow_gives_the_same_ratio() -> None:
    assert anchor(4.0).around(lambda: [3.0]).ratio == anchor(2.0).around(lambda: [1.5]).ratio


def test_what_was_measured_while_the_default_moved_is_measured_again() -> None:
    held = anchor(1.0, 1.5, 1.5, 1.5)
    readings = iter([[9.0], [0.75]])
    reading = held.around(lambda: next(readings))
    assert reading.stable and reading.ratio == pytest.approx(0.5)
    assert held.repeated == 1


def test_a_machine_that_never_rests_is_said_to_be_unsteady() -> None:
    held = anchor(*[1.0 + i % 2 for i in range(50)])
    reading = held.around(lambda: [1.0])
    assert not reading.stable
    assert held.repeated == REPEATS


def test_a_tenth_is_within_tolerance() -> None:
    assert anchor(1.0, 1.09).around(lambda: [1.0]).stable
    assert anchor(1.0, 0.88, 0.88, 0.88).around(lambda: [1.0]).stable  # at the second attempt
