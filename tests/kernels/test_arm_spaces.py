"""Candidates of the search spaces of ARM, under emulation: `make test-spaces`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

pytest.importorskip("tvm", reason="schedules and compiles functions")

import integer_attention
import tvm
from arm_emulator import Call, MissingToolError, Program, tool
from arm_kernels import Kernel
from cpu_spaces import SPACES, Space, for_any, opened
from space_candidates import (
    SAMPLE,
    Candidate,
    blank,
    check,
    compiled_together,
    drawn,
    scheduled,
    unchecked,
)

from handglass.schedules.isa.score_products import BYTES
from handglass.schedules.rule import replay
from handglass.targets import Target, find_target
from handglass.targets.codegen.build import without_alias

pytestmark = [
    pytest.mark.compiler,
    pytest.mark.skipif(not SAMPLE, reason="make test-spaces checks them"),
]


CODED = {
    f"attention_{name}_in_bytes": Space(for_any(partial(make, BYTES)), 200)
    for name, make in integer_attention.SPACES.items()
}
EACH = {**SPACES, **CODED}


@pytest.mark.parametrize("name", ["arm64", "android-arm64-i8mm"])
@pytest.mark.parametrize("space", EACH.values(), ids=EACH.keys())
def test_candidates_are_right(space: Space, name: str, tmp_path: Path) -> None:
    """A batch is one program. What both presets have in common is run on one of them."""
    preset = find_target(name)
    kernel, device = space.make(preset), tvm.target.Target(preset.tvm)
    rule, choices = opened(kernel, preset)
    replayed = partial(replay, kernel.func, rule, device)
    for batch in unchecked(scheduled(drawn(choices.options, SAMPLE), replayed, "aarch64")):
        with TemporaryDirectory(dir=tmp_path) as folder:
            run_emulated(kernel, batch, preset, Path(folder))


def run_emulated(kernel: Kernel, batch: list[Candidate], preset: Target, folder: Path) -> None:
    try:
        tool("qemu-aarch64")
        program = Program(build(batch, preset), [c.name for c in batch], folder)
    except MissingToolError as error:
        pytest.skip(str(error))
    assert preset.emulator_cpu is not None
    calls = [Call(c.name, [*kernel.inputs, *blank(kernel)]) for c in batch]
    results = program.run(preset.emulator_cpu, calls)
    for candidate, arrays in zip(batch, results, strict=True):
        check(kernel, arrays[-len(kernel.outputs) :], candidate.picked)


def build(batch: list[Candidate], preset: Target) -> Any:
    device = tvm.target.Target(preset.tvm)
    with device:
        return compiled_together(
            batch, lambda mod: tvm.compile(without_alias().passes[1](mod), device).mod
        )
