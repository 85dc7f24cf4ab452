"""Random numbers that must never change: bundles store results computed from them."""

import numpy as np
import pytest

from handglass.runtime.execution.portable_random import PortableRandom


def test_the_first_numbers_are_these_for_ever() -> None:
    assert PortableRandom(20, 0).integers(-128, 127, 8).tolist() == [
        -99,
        11,
        5,
        7,
        -75,
        80,
        -86,
        34,
    ]
    normal = PortableRandom(20, 1).standard_normal(4)
    assert normal.dtype == np.float32
    assert normal.view(np.uint32).tolist() == [1061850215, 3196839769, 3215410114, 3201695053]
    assert PortableRandom(20, 2).uniform(-1.0, 3.0, 3).tolist() == [
        1.018101056232037,
        1.7608252586988509,
        0.9380209830608615,
    ]


def test_in_parts_or_at_once() -> None:
    parts, whole = PortableRandom(3, 4), PortableRandom(3, 4).standard_normal(300)
    joined = np.concatenate([parts.standard_normal(n) for n in (1, 0, 99, 200)])
    assert np.array_equal(joined, whole)


def test_another_seed_is_another_sequence() -> None:
    seen = {
        tuple(PortableRandom(*seed).integers(0, 1 << 40, 4))
        for seed in [(0,), (1,), (0, 0), (0, 1)]
    }
    assert len(seen) == 4


def test_they_look_like_what_they_are_called() -> None:
    normal = PortableRandom(1).standard_normal(100_000)
    assert abs(float(normal.mean())) < 0.02 and abs(float(normal.std()) - 1) < 0.02
    assert 3 < float(np.abs(normal).max()) < 3.5
    uniform = PortableRandom(2).uniform(-2.0, 2.0, 100_000)
    assert uniform.min() >= -2 and uniform.max() < 2 and abs(uniform.mean()) < 0.02
    whole = PortableRandom(3).integers(-3, 3, 10_000, np.dtype(np.int8))
    assert whole.dtype == np.int8 and set(whole.tolist()) == set(range(-3, 4))
    assert set(PortableRandom(3).integers(0, 2, 1000, endpoint=False).tolist()) == {0, 1}


@pytest.mark.parametrize(("low", "high"), [(-(1 << 31), (1 << 31) - 1), (0, (1 << 62) - 1)])
def test_wide_ranges(low: int, high: int) -> None:
    found = PortableRandom(5).integers(low, high, 10_000)
    assert low <= found.min() < low + (high - low) / 100
    assert high - (high - low) / 100 < found.max() <= high
