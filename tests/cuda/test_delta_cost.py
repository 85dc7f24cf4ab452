"""Counts of the gated delta rule on a GPU by the emulator: why chunks are the default."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles kernels")
from cuda_kernels import kernels_of, scheduled, target_of
from delta_reference import delta_truth, random_given
from emulator.launch import Counts

from handglass.compiler.ops.delta_rule import Heads
from handglass.compiler.ops.gpu_delta_rule import delta_writer
from handglass.schedules.choices import Noted, Written

pytestmark = [pytest.mark.compiler, pytest.mark.cuda]

RELEASED = Heads(1, 1, 128, 128)
POSITIONS = 32
ORIN = target_of("jetson-orin")


@cache
def counted(**chosen: int) -> Counts:
    """Of a head, whose results are checked."""
    with ORIN:
        func = delta_writer(RELEASED)
    kernels = kernels_of(scheduled(func, ORIN, Written(chosen))[0].mod["main"], ORIN)
    given = random_given(RELEASED, POSITIONS)
    out = np.zeros((POSITIONS, 128), np.float32)
    state, *others = map(np.array, given.arguments())
    (counts,) = kernels.run(state, *others, out, s=POSITIONS)
    for actual, truth in zip((state, out.reshape(-1, 1, 128)), delta_truth(given), strict=True):
        assert np.abs(actual - truth).max() < 1e-5 * np.abs(truth).max()
    return counts


def test_the_default() -> None:
    noted = Noted()
    with ORIN:
        scheduled(delta_writer(RELEASED), ORIN, noted)
    assert noted.values == {"products": 1, "chunk": 16, "columns": 32, "threads": 128, "parts": 2}


@pytest.mark.parametrize("chunk", [8, 16])
def test_chunks_cost_less_than_one_by_one(chunk: int) -> None:
    before, after = counted(products=0), counted(products=1, chunk=chunk)
    assert after.barriers < 0.35 * before.barriers
    assert after.instructions < 0.85 * before.instructions
    assert after.shared_wavefronts < 0.85 * before.shared_wavefronts
    assert after.global_sectors < 1.05 * before.global_sectors


@pytest.mark.parametrize("chunk", [8, 16])
def test_rows_begin_in_different_banks(chunk: int) -> None:
    counts = counted(products=1, chunk=chunk)
    assert counts.bank_conflicts < 0.02 * counts.shared_ideal
