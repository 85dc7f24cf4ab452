"""The search spaces of the kernels: large enough, and every candidate is right.

`make test` checks two candidates per space, `make test-spaces` checks 50, and 50 for ARM under
emulation.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="schedules and compiles functions")

import tvm
import tvm_ffi
from arm_emulator import Call, MissingToolError, Program
from arm_kernels import Kernel
from attention_spaces import over_cache, over_picture
from tvm.s_tir import Schedule, renew_defs

from handglass.schedules import Rule
from handglass.schedules.choices import Noted, Open
from handglass.schedules.rule import replay, schedule_function
from handglass.targets import find_target
from handglass.targets.codegen.build import without_alias

pytestmark = [pytest.mark.compiler, pytest.mark.levels]

SAMPLE = int(os.environ.get("HANDGLASS_TEST_SPACES") or 0)
"""Candidates per space whose results are checked; 0: two of them, on this machine only."""
TARGETS = ("x86-64-v3", "x86-64-v4", "x86-64-amx", "arm64", "android-arm64-i8mm")


@dataclass(frozen=True)
class Space:
    """A kernel whose candidates are checked, and the least number of them."""

    make: Callable[[], Kernel]
    least: int


ATTENTION = {
    "vision": partial(over_picture, None, 77),
    "resampler": partial(over_picture, 10, 77),
    "prefill_f32": partial(over_cache, "float32", 39, 45, heads=6),
    "prefill_f16": partial(over_cache, "float16", 39, 45),
    "prefill_int8": partial(over_cache, "int8", 39, 0, heads=6, d=24),
    "decode_f32": partial(over_cache, "float32", 1, 350, heads=2),
    "decode_f16": partial(over_cache, "float16", 1, 350),
    "decode_int8": partial(over_cache, "int8", 1, 17, heads=16),
}
SPACES = {f"attention_{name}": Space(make, 200) for name, make in ATTENTION.items()}

each_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def opened(kernel: Kernel, name: str) -> tuple[Rule, Open]:
    """The rule that takes a kernel on a target, and its choices."""
    target, choices = find_target(name), Open()
    found = schedule_function(kernel.func, target.rules, tvm.target.Target(target.tvm), choices)
    assert found is not None
    return found[1], choices


@pytest.mark.parametrize("name", TARGETS)
@each_space
def test_a_space_is_large(space: Space, name: str) -> None:
    rule, choices = opened(space.make(), name)
    assert math.prod(map(len, choices.options.values())) >= space.least
    for choice, options in choices.options.items():
        assert set(options) <= set(rule.offers[choice]), (rule.name, choice)


@each_space
def test_no_option_depends_on_another_choice(space: Space) -> None:
    """A search combines all of them."""
    kernel = space.make()
    first, *others = (opened(kernel, "host")[1] for _ in range(4))
    for other in others:
        assert (first.options, first.defaults) == (other.options, other.defaults)


@each_space
def test_the_defaults_are_a_candidate(space: Space) -> None:
    kernel, noted = space.make(), Noted()
    rule, choices = opened(kernel, "host")
    target = tvm.target.Target(find_target("host").tvm)
    default = Schedule(renew_defs(kernel.func))
    assert rule(default, target, noted)
    assert noted.values == choices.defaults
    replayed = replay(kernel.func, rule, target, choices.defaults)
    assert tvm_ffi.structural_equal(default.mod, replayed.mod, map_free_vars=True)


def sample(kernel: Kernel, name: str) -> tuple[Rule, list[dict[str, int]]]:
    """The rule of a kernel on a target, and candidates of its space."""
    rule, choices = opened(kernel, name)
    draw, options = random.Random(16), choices.options
    return rule, [{key: draw.choice(options[key]) for key in options} for _ in range(SAMPLE or 2)]


@each_space
def test_candidates_are_right(space: Space) -> None:
    kernel, target = space.make(), tvm.target.Target(find_target("host").tvm)
    rule, candidates = sample(kernel, "host")
    for candidate in candidates:
        func = replay(kernel.func, rule, target, candidate).mod["main"]
        compiled = tvm.compile(func.with_attr("global_symbol", "kernel"), target)
        results = [tvm.runtime.tensor(out) for out in blank(kernel)]
        given = [x if isinstance(x, int) else tvm.runtime.tensor(x) for x in kernel.inputs]
        compiled["kernel"](*given, *results)
        check(kernel, [result.numpy() for result in results], candidate)


@pytest.mark.skipif(not SAMPLE, reason="make test-spaces checks them")
@each_space
def test_candidates_are_right_on_arm(space: Space, tmp_path: Path) -> None:
    """Under emulation, all candidates in one program."""
    kernel, preset = space.make(), find_target("arm64")
    rule, candidates = sample(kernel, "arm64")
    named = {f"candidate_{number}": choices for number, choices in enumerate(candidates)}
    device = tvm.target.Target(preset.tvm)
    with device:
        funcs = {
            name: replay(kernel.func, rule, device, choices).mod["main"]
            for name, choices in named.items()
        }
        mod = {name: func.with_attr("global_symbol", name) for name, func in funcs.items()}
        built = tvm.compile(without_alias().passes[1](tvm.IRModule(mod)), device).mod
    try:
        program = Program(built, list(named), tmp_path)
    except MissingToolError as error:
        pytest.skip(str(error))
    calls = [Call(name, [*kernel.inputs, *blank(kernel)]) for name in named]
    assert preset.emulator_cpu is not None
    for choices, arrays in zip(candidates, program.run(preset.emulator_cpu, calls), strict=True):
        check(kernel, arrays[-len(kernel.outputs) :], choices)


def blank(kernel: Kernel) -> list[np.ndarray]:
    return [np.full(output.shape, 9, "f4") for output in kernel.outputs]


def check(kernel: Kernel, results: list[np.ndarray], candidate: Mapping[str, int]) -> None:
    for actual, truth in zip(results, kernel.outputs, strict=True):
        error = np.abs(actual - truth).max()
        assert error < kernel.tolerance * float(np.abs(truth).max()), candidate
