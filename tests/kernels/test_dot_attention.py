"""Attention by dot products of bfloat16 pairs, against numpy with the same rounding.

On CPUs without the instruction it is emulated. The rest of the nest is that of tile registers,
which test_amx_attention.py tests.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from arm_kernels import Kernel
from attention_reference import CONTEXT, LENGTHS
from dot_emulator import BFLOAT16_DOTS, DOT_HERE, HAS_DOTS
from space_candidates import SAMPLE, compiled_together, drawn, scheduled, unchecked
from test_amx_attention import result
from thinned import only
from tile_attention import (
    SPACES,
    attend_rounded,
    cache_inputs,
    over_cache,
    over_picture,
    picture_inputs,
)
from tolerance import TILE_ATTENTION
from tvm import tirx
from tvm.s_tir import Schedule, renew_defs

from handglass.compiler.ops.layout import Layout
from handglass.schedules import CPU_RULES
from handglass.schedules.choices import DEFAULTS, Choices, Open, Written
from handglass.schedules.cpu.bf16_attention import OF_TILES, OFFERS, schedule_tile_attention
from handglass.schedules.isa.bf16_dot import AVX512_BF16, BF16_DOTS, FUNCTION, Bf16Dot
from handglass.schedules.isa.register_tiles import ZMM_FLOATS
from handglass.schedules.rule import schedule_function
from handglass.schedules.select import find_units
from handglass.targets import find_target, known_targets
from handglass.targets.codegen.build import without_alias

pytestmark = [pytest.mark.compiler, pytest.mark.levels]

MACHINE = tvm.target.Target(BFLOAT16_DOTS)
HERE = MACHINE if HAS_DOTS else tvm.target.Target(find_target("host").tvm)
AVX512 = find_units(HERE).floats is ZMM_FLOATS


def compiled(func: tirx.PrimFunc, choices: Choices = DEFAULTS) -> Any:
    return build(tvm.IRModule({"main": scheduled_here(func, choices).mod["main"]}))["main"]


def scheduled_here(func: tirx.PrimFunc, choices: Choices) -> Schedule:
    sch = Schedule(renew_defs(func))
    assert schedule_tile_attention(sch, AVX512, choices, DOT_HERE)
    return sch


def build(mod: tvm.IRModule) -> Any:
    return tvm.compile(without_alias().passes[1](mod), HERE)


@cache
def cache_kernel(dtype: str, heads: int, kv: int, d: int) -> Any:
    return compiled(over_cache(dtype, heads=heads, kv=kv, d=d).func)


@pytest.mark.parametrize(
    ("heads", "kv", "d"),
    only([(1, 1, 33)], [(2, 2, 72), (1, 1, 33), (6, 2, 64), (2, 2, 8)]),
)
def test_over_a_picture(heads: int, kv: int, d: int) -> None:
    """Heads whose pairs of columns end a step or not, with an odd or even number of vectors."""
    kernel = compiled(over_picture(heads, kv, d).func)
    for n in LENGTHS:
        q, k, v = picture_inputs(n, n, heads, kv, d)
        TILE_ATTENTION.check(result(kernel, [q, k, v], (n, heads * d)), attend_rounded(q, k, v))


@pytest.mark.parametrize(
    ("heads", "kv", "d", "dtype"),
    only(
        [(5, 1, 8, "int8")],
        [(2, 2, 72, "float32"), (6, 2, 64, "float16"), (5, 1, 8, "int8")],
    ),
)
def test_over_a_cache(heads: int, kv: int, d: int, dtype: str) -> None:
    """The cache is NaN after the last position, which must not affect the result."""
    kernel = cache_kernel(dtype, heads, kv, d)
    for s, pos in ((1, 0), (2, 15), (7, 31), (64, 32), (33, 333), (40, CONTEXT - 40)):
        inputs, truth = cache_inputs(dtype, s, pos, Layout(heads, kv, d))
        TILE_ATTENTION.check(result(kernel, inputs, truth.shape), truth)


@pytest.mark.large
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_no_number_spoils_only_those_who_see_it(bad: float) -> None:
    inputs, truth = cache_inputs("float32", 40, 0, Layout(2, 2, 72))
    inputs[4][:, 21, 3] = bad
    actual = result(cache_kernel("float32", 2, 2, 72), inputs, truth.shape)
    assert not np.isfinite(actual[21:]).all(axis=1).any()
    TILE_ATTENTION.check(actual[:21], truth[:21])


@pytest.mark.large
@pytest.mark.parametrize("space", SPACES)
def test_candidates_are_right(space: str) -> None:
    kernel = SPACES[space]()
    replayed = lambda picked: scheduled_here(kernel.func, Written(picked))  # noqa: E731
    found = scheduled(drawn(opened(kernel).options, SAMPLE or 1), replayed, f"dots-{HAS_DOTS}")
    for batch in unchecked(found):
        built = compiled_together(batch, build)
        for candidate in batch:
            actual = result(built[candidate.name], kernel.inputs, kernel.outputs[0].shape)
            TILE_ATTENTION.check(actual, kernel.outputs[0])


@pytest.mark.parametrize("dot", BF16_DOTS, ids=lambda dot: dot.name)
@pytest.mark.parametrize("space", SPACES)
def test_a_space_is_large(space: str, dot: Bf16Dot) -> None:
    options = opened(SPACES[space](), dot).options
    assert math.prod(map(len, options.values())) >= 200
    for name, offered in options.items():
        assert set(offered) <= set(OFFERS[name]) and name not in OF_TILES


def opened(kernel: Kernel, dot: Bf16Dot = AVX512_BF16) -> Open:
    choices = Open()
    sch = Schedule(renew_defs(kernel.func))
    assert schedule_tile_attention(sch, dot is AVX512_BF16, choices, dot)
    return choices


def test_the_rule_takes_it_and_the_instruction_is_in_its_code() -> None:
    """Sums stay in registers; test_arm_kernels.py looks at the code for ARM."""
    taken = schedule_function(over_picture().func, CPU_RULES, MACHINE)
    assert taken is not None and taken[1].name == "cpu-tile-attention"
    text = tvm.compile(taken[0].mod, MACHINE).mod.inspect_source("asm")
    products = [line for line in text.splitlines() if "\tvdpbf16ps" in line]
    assert len(products) > 64 and FUNCTION not in text and "\ttile" not in text
    assert not [line for line in products if "(%rsp)" in line]


@pytest.mark.parametrize("name", ["android-arm64-i8mm", "jetson-thor-cpu"])
def test_arm_has_it_beside_i8mm(name: str) -> None:
    target = known_targets()[name]
    taken = schedule_function(over_picture().func, target.rules, tvm.target.Target(target.tvm))
    assert taken is not None and taken[1].name == "cpu-tile-attention"
