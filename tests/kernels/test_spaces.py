"""The search spaces of the kernels: large enough, and every candidate is right.

`make test` checks a candidate per space, `make test-spaces` checks 50; of matmuls it checks
50 for each instruction set of this machine and for tiles, which are emulated where they are
missing. Those of ARM are in test_arm_spaces.py, attention in tiles is in test_amx_attention.py.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest

pytest.importorskip("tvm", reason="schedules and compiles functions")

import tvm
import tvm_ffi
from cpu_spaces import GATED, MATMULS, SPACES, Space, opened, target_of
from levels import BY_INSTRUCTION, Level, compiled, compiled_here
from space_candidates import SAMPLE, compiled_together, drawn, run, scheduled, unchecked
from thinned import LARGE, thinned
from tvm.s_tir import Schedule, renew_defs

from handglass.schedules.choices import Noted
from handglass.schedules.isa.integer_isa import AMX
from handglass.schedules.rule import replay
from handglass.targets import Target, find_target

pytestmark = [pytest.mark.compiler, pytest.mark.levels, pytest.mark.slow]

TARGETS = (
    *("x86-64-v3", "avx-vnni", "x86-64-v4", "avx512-vnni", "x86-64-amx"),
    *("raspberry-pi-4", "arm64", "i8mm", "jetson-thor-cpu"),
)
"""Presets and levels: a target per kind of CPU."""
ROW_TARGETS = ("x86-64-v3", "arm64", "jetson-thor-cpu")
"""Row kernels differ only by the codes that they write."""
EACH_SHAPE = ("x86-64-v3", "x86-64-amx", "arm64")
"""Of dot products, of tiles, of a smaller register file."""

each_space = pytest.mark.parametrize("space", thinned(4, SPACES.values()), ids=SPACES.keys())
LIKE_INT8 = {
    "attention_prefill_f32",
    "attention_prefill_f16",
    "attention_decode_f32",
    "attention_decode_f16",
}
"""The nest of attention over int8 keys and values, without their scales."""


def one_of_a_nest(name: str) -> Any:
    return pytest.param(SPACES[name], id=name, marks=LARGE if name in LIKE_INT8 else ())


OF_LEVELS = [
    pytest.param(level, space, id=f"{level.name}-{name}")
    for level in BY_INSTRUCTION
    for name, space in [*MATMULS.items(), *([("gated", GATED)] if level.isa is AMX else [])]
]


@pytest.mark.parametrize(
    ("space", "name"),
    [
        pytest.param(
            space, target, id=f"{name}-{target}", marks=() if target in EACH_SHAPE else LARGE
        )
        for name, space in SPACES.items()
        for target in (TARGETS if space.least > 20 else ROW_TARGETS)
    ]
    + [pytest.param(GATED, "x86-64-amx", id="gated-x86-64-amx")],
)
def test_a_space_is_large(space: Space, name: str) -> None:
    target = target_of(name)
    rule, choices = opened(space.make(target), target)
    assert math.prod(map(len, choices.options.values())) >= space.least
    for choice, options in choices.options.items():
        assert set(options) <= set(rule.offers[choice]), (rule.name, choice)


@each_space
def test_no_option_depends_on_another_choice(space: Space) -> None:
    """A search combines all of them."""
    host = find_target("host")
    kernel = space.make(host)
    first, *others = (opened(kernel, host)[1] for _ in range(3))
    for other in others:
        assert (first.options, first.defaults) == (other.options, other.defaults)


@each_space
def test_the_defaults_are_a_candidate(space: Space) -> None:
    host, noted = find_target("host"), Noted()
    kernel, target = space.make(host), tvm.target.Target(host.tvm)
    rule, choices = opened(kernel, host)
    default = Schedule(renew_defs(kernel.func))
    assert rule(default, target, noted)
    assert noted.values == choices.defaults
    replayed = replay(kernel.func, rule, target, choices.defaults)
    assert tvm_ffi.structural_equal(default.mod, replayed.mod, map_free_vars=True)


@pytest.mark.parametrize("space", [one_of_a_nest(name) for name in SPACES])
def test_candidates_are_right(space: Space) -> None:
    host = find_target("host")
    kernel = space.make(host)
    rule, choices = opened(kernel, host)
    replayed = partial(replay, kernel.func, rule, tvm.target.Target(host.tvm))
    found = scheduled(drawn(choices.options, SAMPLE or 1), replayed, code_of(host))
    for batch in unchecked(found):
        built = compiled_together(batch, compiled_here)
        for candidate in batch:
            run(kernel, built[candidate.name], candidate.picked)


def code_of(target: Target) -> str:
    """A function names its instructions, so CPUs that differ only by these run the same code."""
    return f"{target.architecture}-{target.vector_bits}"


@pytest.mark.skipif(not SAMPLE, reason="make test-spaces checks them")
@pytest.mark.parametrize(("level", "space"), OF_LEVELS)
def test_candidates_are_right_by_instruction(space: Space, level: Level) -> None:
    """They differ from each other, too: no choice is without effect."""
    kernel = space.make(level.target)
    rule, choices = opened(kernel, level.target)
    replayed = partial(replay, kernel.func, rule, tvm.target.Target(level.target.tvm))
    found = scheduled(drawn(choices.options, SAMPLE), replayed, code_of(level.target))
    assert len({candidate.key for candidate in found}) == len(found)
    build = partial(compiled, target=level.target, has_tiles=level.has_tiles)
    for batch in unchecked(found):
        built = compiled_together(batch, build)
        for candidate in batch:
            run(kernel, built[candidate.name], candidate.picked)
