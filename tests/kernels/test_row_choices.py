"""The choices of row kernels on a CPU; test_spaces.py checks their candidates."""

import pytest

pytest.importorskip("tvm", reason="schedules are written with the TVM compiler")

import tvm
from row_spaces import centred, row_kernel

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
