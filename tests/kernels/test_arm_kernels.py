"""Every kernel family for every ARM preset: its machine code, and its results under emulation."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from thinned import only_if

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import integer_attention
import tvm
from arm_emulator import Call, MissingToolError, Program
from arm_kernels import Kernel, build, families
from tile_attention import over_cache, over_picture
from tvm import te

from handglass.schedules.isa.score_products import BYTES
from handglass.targets import Target, known_targets
from handglass.targets.abilities import find_emulator
from handglass.targets.codegen.llvm.assembly import Loop, hot_loops
from handglass.targets.presets.aarch64 import EVERYTHING, PRESETS

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

SVE = re.compile(r"\b[zp]\d+\.[bhsd]\b|\bptrue\b|\bcnt[bhwd]\b")
CODED = "integer_attention_picture"
MATMULS = [f"{s}_{m}" for s in ("f32", "f16", "bf16", "w4a8", "w8a8") for m in ("row", "rows")]


@cache
def kernels(target: Target) -> dict[str, Kernel]:
    made = families(target)
    if "bf16" in target.features:
        made |= {"bf16_attention_prefill": over_cache, "bf16_attention_picture": over_picture}
    if "asimddp" in target.features and "bf16" not in target.features:
        made[CODED] = partial(integer_attention.over_picture, BYTES)
    return {name: make() for name, make in made.items()}


@cache
def module(target: Target) -> tvm.runtime.Module:
    return build(kernels(target), target)


@cache
def listing(target: Target) -> str:
    return module(target).inspect_source("asm")


@cache
def listings(target: Target) -> dict[str, str]:
    """Assembly by kernel: the bodies of parallel loops are separate functions that follow it."""
    text = listing(target)
    parts = re.split(r"^(\w+)_compute_:.*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def instruction(target: Target, name: str) -> str:
    """The instruction that the hot loop of a matmul should consist of."""
    if not name.startswith("w"):
        return "fmla"
    if "i8mm" in target.features and name.endswith("rows"):
        return "smmla"
    return "sdot"


def hot_loop(target: Target, name: str) -> Loop:
    found = hot_loops(listings(target)[name], instruction(target, name))
    assert found, f"{name}: no loop has {instruction(target, name)}"
    return found[0]


def program(target: Target, folder: Path) -> Program:
    try:
        return Program(module(target), list(kernels(target)), folder)
    except MissingToolError as error:
        pytest.skip(str(error))


HERE = ("raspberry-pi-4", "android-arm64-i8mm")
"""The presets with the fewest and the most instructions; `make test-arm-kernels` tests all."""
each_preset = pytest.mark.parametrize(
    "target",
    only_if(lambda target: target.name in HERE, PRESETS),
    ids=lambda target: target.name,
)


@each_preset
def test_no_vector_register_goes_through_the_stack(target: Target) -> None:
    for name in MATMULS:
        if "asimddp" in target.features or not name.startswith("w"):
            loop = hot_loop(target, name)
            assert not loop.vector_stack_traffic, f"{name}: {loop.vector_stack_traffic}"


@each_preset
def test_sums_of_values_stay_in_registers(target: Target) -> None:
    """Four rows by 16 columns, over four positions."""
    loops = hot_loops(listings(target)["attention_rows"], "fmla")
    mixing = [loop for loop in loops if loop.count("fmla") == 4 * 4 * 4]
    assert mixing
    assert not any(loop.vector_stack_traffic for loop in mixing)


@pytest.mark.parametrize(
    "target",
    only_if(lambda target: target.name == "arm64", PRESETS),
    ids=lambda target: target.name,
)
def test_sums_of_scores_stay_in_registers(target: Target) -> None:
    """Four rows by 16 positions by 16 columns, where attention has integers."""
    if CODED in kernels(target):
        loops = hot_loops(listings(target)[CODED], "sdot")
        assert loops and loops[0].count("sdot") == 64
        assert not [loop.vector_stack_traffic for loop in loops if loop.vector_stack_traffic]


@each_preset
def test_no_preset_uses_sve(target: Target) -> None:
    found = SVE.search(listing(target))
    assert found is None, found


def test_sve_would_be_found() -> None:
    """LLVM uses SVE if it is allowed to, so the test above can fail."""
    thor = known_targets()["jetson-thor-cpu"]
    cpu = tvm.target.Target({**thor.tvm, "mattr": []})
    x = te.placeholder((1024,), "float32")
    y = te.compute(x.shape, lambda i: x[i] * x[i] + x[i])
    built = tvm.compile(tvm.IRModule({"main": te.create_prim_func([x, y])}), cpu)
    assert SVE.search(built.mod.inspect_source("asm"))


@each_preset
def test_answers_on_the_oldest_cpu(
    target: Target, tmp_path: Path, evidence: Callable[..., None]
) -> None:
    """One program per preset, run on the oldest CPU that the preset supports."""
    made = kernels(target)
    empty = {name: [np.full_like(a, 77) for a in k.outputs] for name, k in made.items()}
    calls = [Call(name, [*kernel.inputs, *empty[name]]) for name, kernel in made.items()]
    assert target.emulator_cpu is not None
    results = program(target, tmp_path).run(target.emulator_cpu, calls)
    for (name, kernel), arrays in zip(made.items(), results, strict=True):
        for actual, truth in zip(arrays[-len(kernel.outputs) :], kernel.outputs, strict=True):
            error = np.abs(actual.astype(np.float64) - truth).max()
            assert error <= kernel.tolerance * np.abs(truth).max(), f"{name}: {error}"
    evidence(target.name, "kernels of every family", emulator=find_emulator(target))


def test_code_for_a_newer_cpu_is_refused_by_an_older_one(tmp_path: Path) -> None:
    """The emulated CPU rejects newer instructions, so passing on the oldest CPU is meaningful."""
    target = known_targets()["raspberry-pi-5"]
    kernel = kernels(target)["w4a8_row"]
    newer = program(target, tmp_path)
    with pytest.raises(AssertionError, match="exit -4|exit 132"):
        newer.run("cortex-a72", [Call("w4a8_row", [*kernel.inputs, *kernel.outputs])])


# Instructions of the whole kernel. llama.cpp takes 630,549 for one row, and for 64 rows 18,960,450
# with SDOT and 15,421,506 with SMMLA. The counts are exact, so an increase is a change of code
# (benchmarks/arm_counts.py).
COUNTS = {
    ("arm64", 1): 469_295,
    ("arm64", 64): 18_770_610,
    ("android-arm64-i8mm", 64): 13_576_282,
}


@pytest.mark.parametrize(("name", "m"), COUNTS)
def test_instructions_of_a_matmul_do_not_grow(name: str, m: int, tmp_path: Path) -> None:
    """1536 x 1536, 4 bits."""
    from arm_counts import arguments, problem
    from arm_counts import module as compiled

    target = known_targets()[name]
    try:
        made = Program(compiled(target, m, "kernel"), ["kernel"], tmp_path)
    except MissingToolError as error:
        pytest.skip(str(error))
    _, counts = made.count(EVERYTHING, [Call("kernel", arguments(problem(m)))])
    assert counts.of_object(made.object) <= COUNTS[name, m] * 1.01
