"""The search spaces of the kernels on GPUs: large enough, legal, and every candidate is right.

`make test` compiles two candidates of a space of each kind, `make test-vulkan` runs them, and
`make test-spaces` runs 50 of every space.
"""

from __future__ import annotations

import os
import random
from functools import partial
from typing import Any

import pytest

pytest.importorskip("tvm", reason="schedules and compiles functions")

import tvm_ffi
from arm_kernels import Kernel
from attention_spaces import over_cache
from operator_device import KIND, VULKAN
from space_candidates import blank, check, key_of, scheduled, unchecked
from thinned import only_if, thinned
from tvm.s_tir import Schedule
from vulkan_operator import runnable
from vulkan_running import needs_vulkan, shaders, tvm_target
from vulkan_spaces import SPACES, USUAL, Offered, Space, attention

from handglass.schedules import RULES_BY_KIND, Rule
from handglass.schedules.choices import Open
from handglass.schedules.rule import replay, schedule_function
from handglass.schedules.vulkan import VULKAN_RULES
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

SAMPLE = int(os.environ.get("HANDGLASS_TEST_SPACES") or 1)
"""Candidates per space that are compiled, and run if there is a device."""
MATRICES = "vulkan-nvidia-mma"
PORTABLE = "vulkan"
PRESETS = (
    *(PORTABLE, "vulkan-nvidia", MATRICES, "vulkan-amd", "vulkan-intel"),
    *("android-adreno", "android-mali"),
)
"""All presets; android-vulkan has the GPU of vulkan."""

NAMES = SPACES if os.environ.get("HANDGLASS_TEST_SPACES") else USUAL
each_space = pytest.mark.parametrize("name", NAMES)


def target_of(space: Space, preset: str) -> dict:
    return find_target(MATRICES if space.matrices else preset).tvm


def made(space: Space, target: dict) -> Kernel:
    with tvm_target(target):
        return space.make(target)


def opened(kernel: Kernel, target: dict) -> tuple[Rule, Offered, Schedule]:
    """The rule that takes a kernel, its choices, and the default schedule."""
    choices = Offered()
    found = schedule_function(kernel.func, RULES_BY_KIND[KIND], tvm_target(target), choices)
    assert found is not None
    return found[1], choices, found[0]


def sample(offered: Offered) -> list[dict[str, int]]:
    """Different candidates besides the default, at most half of a space."""
    draw, options = random.Random(16), offered.options
    found = [offered.defaults]
    while len(found) <= min(SAMPLE, offered.size // 2):
        candidate = {key: draw.choice(options[key]) for key in options}
        found += [candidate] if candidate not in found else []
    return found[1:]


EACH = [(n, p) for n, s in SPACES.items() for p in ([MATRICES] if s.matrices else PRESETS)]


@pytest.mark.parametrize(
    ("name", "preset"), only_if(lambda each: each[1] in (PORTABLE, MATRICES), EACH)
)
def test_a_space_is_large(name: str, preset: str) -> None:
    space = SPACES[name]
    target = target_of(space, preset)
    rule, choices, _ = opened(made(space, target), target)
    matrices = {"vulkan-matrix"} if preset == MATRICES else set()
    assert rule.name in {space.rule} | matrices
    assert choices.size >= space.least
    for choice, options in choices.options.items():
        assert set(options) <= set(rule.offers[choice]), (rule.name, choice)


@pytest.mark.parametrize(
    "sizes",
    [{"heads": 43, "kv": 43}, {"heads": 10, "d": 128}, {"heads": 1, "kv": 1, "d": 768}],
    ids=["3 splits", "5 rows of a tile", "3 columns"],
)
def test_the_operators_own_workgroup_may_be_any(sizes: dict[str, Any]) -> None:
    """A tuner that opens the choices schedules a random candidate, which must fit into memory."""
    space = attention(partial(over_cache, "float32", 1, 350, **sizes))
    target = target_of(space, PORTABLE)
    kernel = made(space, target)
    for _ in range(4):
        choices = Open()
        found = schedule_function(kernel.func, VULKAN_RULES, tvm_target(target), choices)
        assert found is not None and choices.options
        for choice, options in choices.options.items():
            assert set(options) <= set(found[1].offers[choice]), choice


@pytest.mark.parametrize("name", thinned(3, NAMES))
def test_candidates_compile_and_differ(name: str) -> None:
    """No candidate exceeds the target's limits; those of `test_candidates_are_right` are compiled
    there. Options do not depend on each other, so a few combinations that would exceed them have
    the schedule of another: many, where 36 or 72 groups of inputs have few divisors."""
    space = SPACES[name]
    target = target_of(space, PORTABLE)
    kernel = made(space, target)
    rule, choices, default = opened(kernel, target)
    replayed = partial(replay, kernel.func, rule, tvm_target(target))
    candidates = scheduled(sample(choices), replayed, KIND)
    for candidate in candidates if space.matrices else candidates[:2]:
        shaders(candidate.func, target)
    keys = {candidate.key for candidate in candidates}
    different = 0.4 if name.endswith(("_odd", "_36")) else 0.6
    assert len(keys | {key_of(default, KIND)}) > different * (1 + len(candidates))
    again = replayed(choices.defaults)
    assert tvm_ffi.structural_equal(default.mod, again.mod, map_free_vars=True)


@needs_vulkan
@each_space
def test_candidates_are_right(name: str) -> None:
    space = SPACES[name]
    if space.matrices and KIND == VULKAN:
        pytest.skip("needs matrices: test_vulkan_matrix.py")
    target = target_of(space, PORTABLE)
    kernel = made(space, target)
    rule, choices, _ = opened(kernel, target)
    replayed = partial(replay, kernel.func, rule, tvm_target(target))
    for batch in unchecked(scheduled(sample(choices), replayed, KIND)):
        for candidate in batch:
            results = runnable(candidate.func, target)(*kernel.inputs, *blank(kernel))
            check(kernel, results[-len(kernel.outputs) :], candidate.picked)
