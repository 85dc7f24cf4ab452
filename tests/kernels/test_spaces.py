"""The search spaces of the kernels: large enough, and every candidate is right.

`make test` checks a candidate or two per space, `make test-spaces` checks 50; of matmuls it checks
50 for each instruction set of this machine, for tiles and for ARM, the last two emulated.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="schedules and compiles functions")

import attention_spaces
import tvm
import tvm_ffi
from arm_emulator import Call, MissingToolError, Program
from arm_kernels import Kernel
from levels import BY_INSTRUCTION, LEVELS, Level, compiled_here
from matmul_spaces import times_weights
from row_spaces import centred, gated, heads, plain, quantizing, rms, row_kernel
from tvm import tirx
from tvm.s_tir import Schedule, renew_defs

from handglass.schedules import Rule
from handglass.schedules.choices import Noted, Open
from handglass.schedules.rule import replay, schedule_function
from handglass.targets import Target, find_target
from handglass.targets.codegen.build import without_alias

pytestmark = [pytest.mark.compiler, pytest.mark.levels]

SAMPLE = int(os.environ.get("HANDGLASS_TEST_SPACES") or 0)
"""Candidates per space whose results are checked; 0: one or two of them, on this machine only."""
TARGETS = (
    *("x86-64-v3", "avx-vnni", "x86-64-v4", "avx512-vnni", "x86-64-amx"),
    *("raspberry-pi-4", "arm64", "i8mm"),
)
"""Presets and levels: a target per kind of CPU."""
ROW_TARGETS = ("x86-64-v3", "arm64")
"""Row kernels differ only by the codes that they write."""


@dataclass(frozen=True)
class Space:
    """A kernel, made for a target, whose candidates are checked, and the least number of them."""

    make: Callable[[Target], Kernel]
    least: int


def target_of(name: str) -> Target:
    return LEVELS[name].target if name in LEVELS else find_target(name)


def for_any(make: Callable[[], Kernel]) -> Callable[[Target], Kernel]:
    return lambda target: make()


HEIGHTS = {"row": 1, "rows": 29}
MATMULS = {
    f"{scheme}_{name}": Space(partial(times_weights, scheme, m, 500, 256), 100)
    for scheme in ("f32", "bf16", "w4", "w4a8", "w8a8")
    for name, m in HEIGHTS.items()
} | {"f32_few": Space(partial(times_weights, "f32", 1, 32, 1024), 100)}
"""One with few outputs, too."""
ROWS = {"norm": rms, "layer_norm": centred, "heads": heads, "gate": gated}
QUANTIZED = {
    "quantize4": partial(quantizing, plain, "w4a8"),
    "norm_quantize4": partial(quantizing, rms, "w4a8"),
    "gate_quantize8": partial(quantizing, gated, "w8a8"),
}
MADE = {name: partial(row_kernel, rows) for name, rows in ROWS.items()} | QUANTIZED
SPACES = {
    **{
        f"attention_{name}": Space(for_any(make), 200)
        for name, make in attention_spaces.SPACES.items()
    },
    **MATMULS,
    **{
        f"{kind}_{name}": Space(partial(make, m, 1152), 20)
        for kind, make in MADE.items()
        for name, m in HEIGHTS.items()
    },
}

each_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
each_matmul = pytest.mark.parametrize("space", MATMULS.values(), ids=MATMULS.keys())


def opened(kernel: Kernel, target: Target) -> tuple[Rule, Open]:
    """The rule that takes a kernel on a target, and its choices."""
    choices = Open()
    found = schedule_function(kernel.func, target.rules, tvm.target.Target(target.tvm), choices)
    assert found is not None
    return found[1], choices


@pytest.mark.parametrize(
    ("space", "name"),
    [
        pytest.param(space, target, id=f"{name}-{target}")
        for name, space in SPACES.items()
        for target in (TARGETS if space.least > 20 else ROW_TARGETS)
    ],
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


def sample(kernel: Kernel, target: Target) -> tuple[Rule, list[dict[str, int]]]:
    """The rule of a kernel on a target, and candidates of its space."""
    rule, choices = opened(kernel, target)
    draw, options = random.Random(16), choices.options
    count = SAMPLE or (2 if rule.name == "cpu-attention" else 1)
    return rule, [{key: draw.choice(options[key]) for key in options} for _ in range(count)]


@each_space
def test_candidates_are_right(space: Space) -> None:
    host = find_target("host")
    target = tvm.target.Target(host.tvm)
    kernel = space.make(host)
    rule, candidates = sample(kernel, host)
    for candidate in candidates:
        func = scheduled(kernel, rule, target, candidate)
        run(kernel, compiled_here(tvm.IRModule({"kernel": func})), candidate)


@pytest.mark.skipif(not SAMPLE, reason="make test-spaces checks them")
@pytest.mark.parametrize("level", BY_INSTRUCTION, ids=lambda level: level.name)
@each_matmul
def test_candidates_are_right_by_instruction(space: Space, level: Level) -> None:
    """They differ from each other, too: no choice is without effect."""
    kernel, target = space.make(level.target), tvm.target.Target(level.target.tvm)
    rule, candidates = sample(kernel, level.target)
    seen = {}
    for candidate in candidates:
        sch = replay(kernel.func, rule, target, candidate)
        seen[tuple(candidate.values())] = tvm_ffi.structural_hash(sch.mod, map_free_vars=True)
        run(kernel, {"kernel": level.compile(sch)}, candidate)
    assert len(set(seen.values())) == len(seen)


def scheduled(
    kernel: Kernel,
    rule: Rule,
    target: tvm.target.Target,
    choices: Mapping[str, int],
    name: str = "kernel",
) -> tirx.PrimFunc:
    func = replay(kernel.func, rule, target, choices).mod["main"]
    return func.with_attr("global_symbol", name)


def run(kernel: Kernel, compiled: Mapping[str, Any], candidate: Mapping[str, int]) -> None:
    results = [tvm.runtime.tensor(out) for out in blank(kernel)]
    given = [x if isinstance(x, int) else tvm.runtime.tensor(x) for x in kernel.inputs]
    compiled["kernel"](*given, *results)
    check(kernel, [result.numpy() for result in results], candidate)


@pytest.mark.skipif(not SAMPLE, reason="make test-spaces checks them")
@pytest.mark.parametrize("name", ["arm64", "android-arm64-i8mm"])
@each_space
def test_candidates_are_right_on_arm(space: Space, name: str, tmp_path: Path) -> None:
    """Under emulation, all candidates in one program."""
    preset = find_target(name)
    kernel = space.make(preset)
    rule, candidates = sample(kernel, preset)
    named = {f"candidate_{number}": choices for number, choices in enumerate(candidates)}
    device = tvm.target.Target(preset.tvm)
    with device:
        mod = {n: scheduled(kernel, rule, device, choices, n) for n, choices in named.items()}
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
    dtypes = (output.dtype if output.dtype.kind == "i" else "f4" for output in kernel.outputs)
    return [np.full(out.shape, 9, dtype) for out, dtype in zip(kernel.outputs, dtypes, strict=True)]


def check(kernel: Kernel, results: list[np.ndarray], candidate: Mapping[str, int]) -> None:
    for actual, truth in zip(results, kernel.outputs, strict=True):
        error = np.abs(actual.astype(np.float64) - truth).max()
        assert error < kernel.tolerance * float(np.abs(truth).max()), candidate
