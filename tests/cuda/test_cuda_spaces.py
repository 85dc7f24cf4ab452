"""The search spaces of the kernels on NVIDIA GPUs: large enough, and never more than a chip has.

Nothing is compiled, so neither a GPU nor NVIDIA's compiler is needed. `make test-cuda` runs
candidates on the emulator (tests/kernels/test_vulkan_spaces.py).
"""

from __future__ import annotations

import random
from functools import partial
from itertools import product
from math import prod
from typing import Any

import pytest

pytest.importorskip("tvm", reason="schedules functions")

from arm_kernels import Kernel
from attention_spaces import over_cache, over_picture
from cuda_kernels import DYNAMIC, kernels_of
from space_candidates import SAMPLE
from thinned import thinned
from tvm.s_tir import Schedule, renew_defs
from tvm.target import Target
from vulkan_spaces import SPACES, USUAL, Offered, Space

from handglass.schedules import Rule
from handglass.schedules.choices import Choices, Written
from handglass.schedules.cuda import flash_attention, float_row, one_row, tensor_core
from handglass.schedules.cuda.flash_shape import REGISTERS
from handglass.schedules.cuda.fragments import WARP
from handglass.schedules.cuda.row_by_warps import REGISTERS as REGISTERS_OF_ALL
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
    "vulkan-matmul": ("cuda-one-row", "cuda-float-row"),
    "vulkan-dot": ("cuda-dot-row",),
    "vulkan-attention": ("cuda-flash-attention",),
}
"""A rule of all GPUs -> the rules that take some of its kernels on chips with `products`."""
FLASH = {
    "vision": partial(over_picture, None, 7, 2, 2, 72, rounded=True),
    "resampler": partial(over_picture, 64, 7, 2, 2, 128, rounded=True),
    "prefill": partial(over_cache, "float16", 7, 0, 14, 2, 64, rounded=True),
    "prefill_int8": partial(over_cache, "int8", 7, 0, 7, 1, 128, rounded=True),
    "decode": partial(over_cache, "float16", 1, 0, 36, 36, 64),
    "decode_grouped": partial(over_cache, "float16", 1, 0, 32, 2, 128),
    "decode_wide": partial(over_cache, "float16", 1, 0, 8, 2, 256),
    "decode_int8": partial(over_cache, "int8", 1, 0, 36, 36, 64),
    "decode_int8_grouped": partial(over_cache, "int8", 1, 0, 32, 2, 128),
    "decode_int8_wide": partial(over_cache, "int8", 1, 0, 8, 2, 256),
    "decode_f32": partial(over_cache, "float32", 1, 0, 36, 36, 64),
    "decode_f32_grouped": partial(over_cache, "float32", 1, 0, 32, 2, 128),
    "decode_f32_wide": partial(over_cache, "float32", 1, 0, 8, 2, 256),
}
"""Attention whose operands may be rounded, or of one query, with heads of models."""
HEADS = {"vision": (72, 1), "resampler": (128, 1), "prefill": (64, 7), "prefill_int8": (128, 7)}
HEADS |= {f"decode{kind}": (64, 1) for kind in ("", "_int8", "_f32")}
HEADS |= {f"decode{kind}_grouped": (128, 16) for kind in ("", "_int8", "_f32")}
HEADS |= {f"decode{kind}_wide": (256, 4) for kind in ("", "_int8", "_f32")}
"""Columns of a head, and heads that share keys."""


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


@pytest.mark.parametrize(("preset", "name"), thinned(4, CHIPS.values(), SPACES))
def test_a_space_is_large(name: str, preset: str) -> None:
    space, choices = SPACES[name], Offered()
    rule = taken(made(space, preset), preset, choices)
    has_tensor_cores = limits_of(preset).tensor
    if name in MATMULS and has_tensor_cores:
        assert rule is tensor_core.RULE
    else:
        shared = space.rule if not space.matrices else "vulkan-matmul"
        assert rule.name in (shared, *OWN.get(shared, ()))
    assert choices.size >= space.least
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


@pytest.mark.parametrize("of", [one_row, float_row])
def test_ways_to_read_a_row_differ_and_have_their_registers(of: Any) -> None:
    values = (dict(zip(of.OFFERS, v, strict=True)) for v in product(*of.OFFERS.values()))
    ways = {of.Reading(**picked).fitted() for picked in values}
    assert len(ways) >= 100
    for way in ways:
        threads = WARP * way.parts
        assert way.registers <= min(255, REGISTERS_OF_ALL // threads), way


@pytest.mark.parametrize("preset", CHIPS.values())
@pytest.mark.parametrize("name", FLASH)
def test_attention_on_tensor_cores_has_many_workgroups(name: str, preset: str) -> None:
    """All are within a chip's limits; some combinations of choices have the workgroup of others."""
    with target_of(preset):
        kernel = FLASH[name]()
    offered, limits = Offered(), limits_of(preset)
    rule = taken(kernel, preset, offered)
    assert rule is flash_attention.RULE
    (d, group), panels = HEADS[name], name.startswith(("prefill", "decode"))
    kept = "int8" if "int8" in name else "float32" if "f32" in name else "float16"
    cache = kept if name.startswith("decode") else ""
    usual = {"held": (0,)}  # where it is no choice
    free = {c: offered.options.get(c, usual.get(c, (1,))) for c in rule.offers}
    others = len(free.pop("order")) * len(free.pop("splits"))
    combinations = (dict(zip(free, values, strict=True)) for values in product(*free.values()))
    shapes = {
        flash_attention.shape_of(d, chosen, cache, group).fitted(limits.optin, panels)
        for chosen in combinations
    }
    assert len(shapes) * others >= 200
    for shape in shapes:
        assert shape.bytes(panels) <= limits.optin
        assert prod(shape.threads) <= 256 and shape.registers <= REGISTERS
        assert shape.step >= 16 and shape.chunk % (shape.across * shape.step) == 0


@pytest.mark.cuda
@pytest.mark.parametrize(("preset", "name"), thinned(2, CHIPS.values(), USUAL))
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
