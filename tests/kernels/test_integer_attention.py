"""Attention whose scores are products of integers, against numpy with the same codes, and without.

The products of other instruction sets are replaced by arithmetic that this machine has.
Lengths end inside, at and after a panel and a tile of rows.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from arm_kernels import Kernel
from attention_reference import attend
from cpu_spaces import target_of
from integer_attention import SPACES, UNROUNDED, attend_coded, inputs, over_picture
from space_candidates import SAMPLE, compiled_together, drawn, scheduled, unchecked
from thinned import only
from tolerance import CODED_ATTENTION
from tvm import tirx
from tvm.s_tir import Schedule, renew_defs

from handglass.compiler.schemes.quantize import SCHEMES
from handglass.compiler.schemes.scheme import attention_to_all
from handglass.schedules import CPU_RULES
from handglass.schedules.choices import DEFAULTS, Choices, Open, Written
from handglass.schedules.cpu.attention import schedule_attention
from handglass.schedules.isa.score_products import (
    BYTES,
    CODES,
    OF_CODES,
    OF_ISA,
    WORDS,
    ScoreCodes,
    ScoreProducts,
    find_score_products,
    portable,
)
from handglass.schedules.rule import schedule_function
from handglass.schedules.select import find_units
from handglass.targets import find_target, known_targets
from handglass.targets.codegen.build import without_alias

pytestmark = [pytest.mark.compiler, pytest.mark.levels]

HOST = tvm.target.Target(find_target("host").tvm)
EACH = [*CODES.values()]
SHAPES = [(2, 2, 72), (6, 2, 64), (1, 1, 33), (2, 2, 80), (1, 1, 128)]  # heads, kv heads, d
HERE = [(WORDS, (2, 2, 72)), (BYTES, (6, 2, 64))]
X86 = {"x86-64-v3": "vpmaddwd", "avx-vnni": "vpdpwssd", "avx512-vnni": "vpdpwssd"}
"""The instruction of each target with words."""
each_codes = pytest.mark.parametrize("codes", EACH, ids=lambda codes: codes.name)


def products_for(codes: ScoreCodes) -> ScoreProducts:
    """Those of this machine, or the same in arithmetic that every CPU has, which is long: few rows
    are unrolled."""
    found = find_score_products(HOST)
    if found and found.codes is codes:
        return found
    return replace(portable(OF_CODES[codes.name]), rows=2)


@cache
def kernel(codes: ScoreCodes, heads: int, kv: int, d: int, queries: int | None = None) -> Any:
    return compiled(over_picture(codes, heads, kv, d, queries).func, products_for(codes))


def compiled(func: tirx.PrimFunc, products: ScoreProducts, choices: Choices = DEFAULTS) -> Any:
    sch = scheduled_for(func, products, choices)
    return build(tvm.IRModule({"main": sch.mod["main"]}))["main"]


def scheduled_for(func: tirx.PrimFunc, products: ScoreProducts, choices: Choices) -> Schedule:
    sch = Schedule(renew_defs(func))
    assert schedule_attention(sch, HOST, choices, products)
    return sch


def build(mod: tvm.IRModule) -> Any:
    return tvm.compile(without_alias().passes[1](mod), HOST)


def result(compiled: Any, given: Sequence[Any]) -> np.ndarray:
    s, heads, d = given[0].shape
    out = tvm.runtime.tensor(np.full((s, heads * d), 9, np.float32))
    compiled(*map(tvm.runtime.tensor, given), out)
    return out.numpy()


@pytest.mark.parametrize(
    ("codes", "shape"), only(HERE, [(codes, shape) for codes in EACH for shape in SHAPES])
)
def test_over_a_picture(codes: ScoreCodes, shape: tuple[int, int, int]) -> None:
    """Grouped heads, and columns that end inside a load."""
    for n in (1, 7, 16, 65, 130):
        q, k, v = inputs(n, n, *shape)
        actual = result(kernel(codes, *shape), [q, k, v])
        CODED_ATTENTION.check(actual, attend_coded(q, k, v, codes))
        UNROUNDED[codes.name].check(actual, attend(q, k, v))


@pytest.mark.parametrize(
    ("codes", "queries"), only([(WORDS, 10)], [(c, n) for c in EACH for n in (2, 10, 64)])
)
def test_with_a_fixed_number_of_queries(codes: ScoreCodes, queries: int) -> None:
    for n in (1, 65, 1025):
        q, k, v = inputs(queries, n, 4, 4, 128)
        actual = result(kernel(codes, 4, 4, 128, queries), [q, k, v])
        CODED_ATTENTION.check(actual, attend_coded(q, k, v, codes))


@each_codes
def test_an_offset_of_the_keys_costs_no_accuracy(codes: ScoreCodes) -> None:
    """The mean key is subtracted: of a column 50 times larger than the others, 22 dB are left
    otherwise."""
    _, shape = HERE[EACH.index(codes)]
    q, k, v = inputs(130, 130, *shape)
    k[..., 5] += 50
    UNROUNDED[codes.name].check(result(kernel(codes, *shape), [q, k, v]), attend(q, k, v))


@each_codes
def test_zeros(codes: ScoreCodes) -> None:
    """Rows without a largest number: all weights are equal."""
    _, shape = HERE[EACH.index(codes)]
    q, k, v = inputs(20, 20, *shape)
    q[3], k[:] = 0, 1
    CODED_ATTENTION.check(result(kernel(codes, *shape), [q, k, v]), attend(q, k, v))


@each_codes
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_no_number_spoils_only_itself(codes: ScoreCodes, bad: float) -> None:
    _, (heads, kv, d) = HERE[EACH.index(codes)]
    q, k, v = inputs(40, 40, heads, kv, d)
    truth = attend_coded(q, k, v, codes)
    q[3, 1, 5] = bad
    actual = result(kernel(codes, heads, kv, d), [q, k, v])
    assert not np.isfinite(actual[3, d : 2 * d]).any()
    actual[3, d : 2 * d] = truth[3, d : 2 * d]
    CODED_ATTENTION.check(actual, truth)


@each_codes
def test_a_key_that_is_no_number_spoils_its_head(codes: ScoreCodes) -> None:
    _, (heads, kv, d) = HERE[EACH.index(codes)]
    q, k, v = inputs(40, 40, heads, kv, d)
    truth = attend_coded(q, k, v, codes).reshape(40, kv, -1)
    k[21, 1, 3] = np.nan
    actual = result(kernel(codes, heads, kv, d), [q, k, v]).reshape(truth.shape)
    assert np.isnan(actual[:, 1]).all()
    CODED_ATTENTION.check(actual[:, 0], truth[:, 0])


def test_no_sum_overflows() -> None:
    """All columns of a query and a key are the largest code."""
    for codes in EACH:
        for d in (1, 72, 128, 1000):
            assert codes.limit(d) ** 2 * d < 2**31
            assert codes.limit(d) <= np.iinfo(codes.dtype).max


# --- choices ---


@pytest.mark.large
@each_codes
@pytest.mark.parametrize("space", SPACES)
def test_candidates_are_right(codes: ScoreCodes, space: str) -> None:
    made, products = SPACES[space](codes), products_for(codes)
    replayed = lambda picked: scheduled_for(made.func, products, Written(picked))  # noqa: E731
    found = scheduled(drawn(opened(made, products).options, SAMPLE or 1), replayed, codes.name)
    for batch in unchecked(found):
        built = compiled_together(batch, build)
        for candidate in batch:
            CODED_ATTENTION.check(result(built[candidate.name], made.inputs), made.outputs[0])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("isa", OF_ISA)
def test_a_space_is_large(space: str, isa: str) -> None:
    products = OF_ISA[isa]
    options = opened(SPACES[space](products.codes), products).options
    assert math.prod(map(len, options.values())) >= 200
    (rule,) = (rule for rule in CPU_RULES if rule.name == "cpu-attention")
    for name, offered in options.items():
        assert set(offered) <= set(rule.offers[name]), name


def opened(made: Kernel, products: ScoreProducts) -> Open:
    choices = Open()
    scheduled_for(made.func, products, choices)
    return choices


# --- selection and code; that of ARM is in test_arm_kernels.py ---


def test_which_schemes_have_integer_scores() -> None:
    """Those with integer rows, on CPUs without operands of 16 bits; others keep what they had."""
    for name, target in known_targets().items():
        units = find_units(tvm.target.Target(target.tvm))
        on = {n: attention_to_all(scheme.on(units)) for n, scheme in SCHEMES.items()}
        coded = {n for n, kind in on.items() if kind in CODES}
        assert coded in (set(), {"w4a8", "w7a8", "w8a8"}), name
        assert not coded or OF_ISA[units.integers.name].codes.name == on["w8a8"], name
    of = lambda name: attention_to_all(  # noqa: E731
        SCHEMES["w8a8"].on(find_units(tvm.target.Target(known_targets()[name].tvm)))
    )
    assert of("x86-64-v3") == "words" and of("arm64") == "bytes"
    assert of("x86-64-amx") == "amx" and of("x86-64-v4") == ""


@pytest.mark.large
@pytest.mark.parametrize(("name", "instruction"), X86.items())
def test_the_instruction_is_in_the_code(name: str, instruction: str) -> None:
    """VNNI adds to the sums as it multiplies; as many as a register tile has."""
    target = target_of(name)
    device = tvm.target.Target(target.tvm)
    found = schedule_function(over_picture(WORDS).func, target.rules, device)
    assert found is not None and found[1].name == "cpu-attention"
    text = tvm.compile(found[0].mod, device).mod.inspect_source("asm")
    taken = [line for line in text.splitlines() if f"\t{instruction}\t" in line]
    assert len(taken) >= 12
