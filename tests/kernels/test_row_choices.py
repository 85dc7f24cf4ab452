"""The choices of row kernels on a CPU: sampled ones are right, others are refused."""

import random
from itertools import product

import numpy as np
import pytest

pytest.importorskip("tvm", reason="schedules are written with the TVM compiler")

import tvm
from tvm import te, tirx

from handglass.compiler.ops import norm
from handglass.schedules.choices import UnknownChoiceError
from handglass.schedules.cpu.rows import OFFERS, RULE
from handglass.schedules.rule import replay
from handglass.targets import find_target

pytestmark = pytest.mark.compiler

HOST = tvm.target.Target(find_target("host").tvm)
SAMPLE = random.Random(16).sample(
    [dict(zip(OFFERS, v, strict=True)) for v in product(*OFFERS.values())], 6
)
"""Half of the 12 candidates of a norm whose width fits all of them."""


def normalised(m: int | tirx.Var, d: int = 256) -> tirx.PrimFunc:
    x = te.placeholder((m, d), "float32", name="x")
    w, b = (te.placeholder((d,), "float32", name=name) for name in "wb")
    return te.create_prim_func([x, w, b, norm.layer_norm(x, w, b, 1e-6)])


@pytest.mark.parametrize("choices", SAMPLE, ids=str)
def test_sampled_candidates_are_right(choices: dict[str, int]) -> None:
    sch = replay(normalised(tirx.Var("m", "int64")), RULE, HOST, choices)
    kernel = tvm.compile(sch.mod, HOST)
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(2, 256)).astype(np.float32)
    for m in (1, 37):
        x = rng.normal(size=(m, 256)).astype(np.float32)
        y = tvm.runtime.tensor(np.zeros_like(x))
        kernel["main"](*map(tvm.runtime.tensor, (x, w, b)), y)
        truth = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * w + b
        np.testing.assert_allclose(y.numpy(), truth, rtol=1e-5, atol=1e-5)


def test_an_unroll_factor_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UnknownChoiceError, match="choice 'unroll': 8 is not one of 1, 2, 4"):
        replay(normalised(5, 64), RULE, HOST, {"unroll": 8, "vector": 16})
