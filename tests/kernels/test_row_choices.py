"""The choices of row kernels on a CPU; test_spaces.py checks their candidates."""

import pytest

pytest.importorskip("tvm", reason="schedules are written with the TVM compiler")

import tvm
from levels import compiled_here
from row_spaces import centred, gated, heads, plain, quantizing, row_kernel
from space_candidates import run

from handglass.schedules.choices import UnknownChoiceError
from handglass.schedules.cpu.rows import RULE
from handglass.schedules.rule import replay
from handglass.targets import find_target

pytestmark = pytest.mark.compiler


def test_an_unroll_factor_that_divides_no_sum_is_refused() -> None:
    host = find_target("host")
    kernel = row_kernel(centred, 5, 64, host)
    with pytest.raises(UnknownChoiceError, match="choice 'unroll': 8 is not one of 1, 2, 4"):
        replay(kernel.func, RULE, tvm.target.Target(host.tvm), {"unroll": 8, "vector": 16})


KERNELS = {
    "norm": lambda m, device: row_kernel(centred, m, 64, device),
    "norm, quantized": lambda m, device: quantizing(centred, "w8a8", m, 96, device),
    "quantized": lambda m, device: quantizing(plain, "w8a8", m, 256, device),
    "gate, quantized": lambda m, device: quantizing(gated, "w4a8", m, 64, device),
    "heads": lambda m, device: row_kernel(heads, m, 384, device),
}


@pytest.mark.parametrize("choice", [0, 1])
@pytest.mark.parametrize("kind", KERNELS)
def test_the_next_row_is_fetched(kind: str, choice: int) -> None:
    """Once per vector of the first pass; results are the same."""
    host = find_target("host")
    target, kernel = tvm.target.Target(host.tvm), KERNELS[kind](5, host)
    mod = replay(kernel.func, RULE, target, {"ahead": choice}).mod
    assert mod.script().count("llvm.prefetch") == choice
    run(kernel, compiled_here(mod)["main"], {"ahead": choice})


def test_a_single_row_has_no_next_one() -> None:
    host = find_target("host")
    with pytest.raises(UnknownChoiceError, match="'ahead'"):
        replay(KERNELS["norm"](1, host).func, RULE, tvm.target.Target(host.tvm), {"ahead": 1})
