"""The search spaces of the kernels on NVIDIA GPUs: large enough, and never more than a chip has.

Nothing is compiled, so neither a GPU nor NVIDIA's compiler is needed. `make test-cuda` runs
candidates on the emulator (tests/kernels/test_vulkan_spaces.py).
"""

from __future__ import annotations

import random
from itertools import product
from math import prod

import pytest

pytest.importorskip("tvm", reason="schedules functions")

from arm_kernels import Kernel
from cuda_kernels import DYNAMIC, kernels_of
from space_candidates import SAMPLE
from tvm.s_tir import Schedule, renew_defs
from tvm.target import Target
from vulkan_spaces import SPACES, USUAL, Offered, Space

from handglass.schedules import Rule
from handglass.schedules.choices import Choices, Written
from handglass.schedules.cuda import one_row, tensor_core
from handglass.schedules.gpu.limits import GpuLimits, gpu_limits
from handglass.schedules.rule import find, replay, schedule_function
from handglass.targets import find_target
from handglass.targets.presets.cuda import CARDS, JETSONS

pytestmark = pytest.mark.compiler

PRESETS = [row[0] for row in (*CARDS, *JETSONS)]


def target_of(preset: str) -> Target:
    return Target(dict(find_target(preset).tvm))


def limits_of(preset: str) -> GpuLimits:
    return gpu_limits(target_of(preset))


CHIPS = {limits_of(preset): preset for preset in PRESETS}
"""A preset for each kind of chip: rules see nothing but its limits."""
MATMULS = ("rows_w4a8", "rows_w8a8", "matrices_f16")
"""Spaces that tensor cores have candidates for."""
OWN = {
    "vulkan-matmul": "cuda-one-row",
    "vulkan-dot": "cuda-dot-row",
}
"""A rule of all GPUs -> the rule that takes some of its kernels on chips with `products`."""
FEW = {one_row.RULE.name: len(one_row.OFFERS["parts"])}
"""A rule whose loads and products are fixed, so that a search has only one choice to make."""


def made(space: Space, preset: str) -> Kernel:
    with target_of(preset):
        return space.make(find_target(preset).tvm)


def taken(kernel: Kernel, preset: str, choices: Choices) -> Rule:
    found = schedule_function(kernel.func, find_target(preset).rules, target_of(preset), choices)
    assert found is not None
    return found[1]


def test_which_kinds_of_chips_there_are() -> None:
    assert len(CHIPS) >= 4 and {limits.tensor for limits in CHIPS} == {False, True}
    assert {limits_of(preset) for preset in PRESETS} == set(CHIPS)


@pytest.mark.parametrize("preset", CHIPS.values())
@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_large(name: str, preset: str) -> None:
    space, choices = SPACES[name], Offered()
    rule = taken(made(space, preset), preset, choices)
    has_tensor_cores = limits_of(preset).tensor
    if name in MATMULS and has_tensor_cores:
        assert rule is tensor_core.RULE
    else:
        shared = space.rule if not space.matrices else "vulkan-matmul"
        assert rule.name in (shared, OWN.get(shared))
    assert choices.size >= FEW.get(rule.name, space.least)
    for choice, options in choices.options.items():
        assert set(options) <= set(rule.offers[choice]), (rule.name, choice)


@pytest.mark.parametrize("preset", [chip for limits, chip in CHIPS.items() if limits.tensor])
@pytest.mark.parametrize("name", MATMULS)
def test_tiles_of_tensor_cores_differ_and_fit(name: str, preset: str) -> None:
    """Choices that exceed the shared memory of a chip have the tile of others."""
    sch, limits = Schedule(renew_defs(made(SPACES[name], preset).func)), limits_of(preset)
    (block,) = (b for pattern in tensor_core.PATTERNS for b in find(sch, pattern))
    of, tiles = tensor_core.fragments_of(sch), set()
    assert of is not None
    for values in product(*tensor_core.OFFERS.values()):
        picked = Written(dict(zip(tensor_core.OFFERS, values, strict=True)))
        tiles.add(tensor_core.pick_tile(sch, block, of, limits, picked))
    assert len(tiles) >= 100
    assert all(tile.bytes <= limits.optin for tile in tiles)


@pytest.mark.cuda
@pytest.mark.parametrize("preset", CHIPS.values())
@pytest.mark.parametrize("name", USUAL)
def test_candidates_stay_within_the_limits(name: str, preset: str) -> None:
    kernel, limits, offered = made(SPACES[name], preset), limits_of(preset), Offered()
    rule, draw = taken(kernel, preset, offered), random.Random(16)
    for _ in range(SAMPLE or 2):
        picked = {key: draw.choice(options) for key, options in offered.options.items()}
        func = replay(kernel.func, rule, target_of(preset), picked).mod["main"]
        for launch in kernels_of(func, target_of(preset)).launches:
            sizes = {key: int(n) for key, n in launch.extents.items() if "threadIdx" in key}
            assert prod(sizes.values()) <= limits.threads, picked
            assert int(launch.extents.get(DYNAMIC, 0)) <= limits.optin, picked
