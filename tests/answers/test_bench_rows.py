"""Benchmark rows and limits, without a bundle."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from handglass.errors import MismatchError
from handglass.runtime.bundle.entries import TensorEntry
from handglass.runtime.execution.clocks import HostClock
from handglass.runtime.measure.kernels import MACHINE, Calls, Observer
from handglass.runtime.measure.limits import Limits, last_level_cache
from handglass.runtime.measure.rows import Row
from handglass.runtime.measure.steps import random_cache, spread


def test_a_rate_and_its_fraction() -> None:
    row = Row("pp64", "tok/s", lambda: 0.0, count=64, work=1e9, limit="fma")
    row.samples, row.limits = [0.5, 1.0, 2.0], [2e9, 4e9, 4e9]
    assert row.figures() == [128, 64, 32]
    assert row.fraction() == pytest.approx(1e9 / 1.0 / 4e9)
    assert Row("encode", "ms", lambda: 0.0, samples=[0.25]).figures() == [250.0]
    assert Row("load", "s", lambda: 0.0, samples=[0.25]).fraction() is None


def test_spread() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"min": 1.0, "median": 2.0, "p90": pytest.approx(2.8)}
    assert spread([]) == {"min": None, "median": None, "p90": None}


def test_the_cache_is_filled_with_finite_values_of_its_type() -> None:
    cache = [TensorEntry("k", (3, 5), "float16"), TensorEntry("v", (7,), "float32")]
    filled = list(random_cache(cache))
    for entry, tensor in zip(cache, filled, strict=True):
        assert (tensor.shape, tensor.dtype.name) == (entry.shape, entry.dtype)
        assert np.isfinite(tensor).all() and tensor.std() > 0.1


def test_largest_cache_wins(tmp_path: Path) -> None:
    for index, size in enumerate(("32K", "512K", "16M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert last_level_cache(tmp_path) == 16 << 20
    assert last_level_cache(tmp_path / "none") == 0


def test_a_bundle_without_probes_says_so() -> None:
    class Old:
        threads = 1

        def function(self, name: str) -> None:
            raise MismatchError(name)

    assert "probe_read" in Limits(Old()).missing()  # type: ignore[arg-type]


def test_views_of_tensors_are_no_kernels() -> None:
    """Their arguments have no sizes, so their work must not be counted."""
    observer = Observer({}, HostClock())
    observer.calls, observer.step = defaultdict(Calls), 1
    observer.before("runtime.TVMTensorCreateView", [object()])
    observer.after("runtime.TVMTensorCreateView")
    observer.settle()
    assert set(observer.calls) == {MACHINE}
