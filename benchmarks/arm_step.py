"""Counts the instructions of every kernel of a decoded token and of a picture, in an emulator.

    python benchmarks/arm_step.py [--position N] [--patches N] [--target NAME ...] [--step NAME ...]

The kernels are those of the full-size seed, with `w4a8` and the vision tower in `w8a8`, scheduled
by their defaults. Each is called once under qemu-aarch64, with random arguments of its full size;
a step is the sum over its calls. The virtual machine between the kernels is not counted. Beside the
matmuls of one row is llama.cpp's kernel for the same shape; its other operators are not counted.
Prints Markdown tables and writes build/arm-counts/step-TARGET.json. Nothing is measured on
hardware.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import arm_llama
import numpy as np
import tvm
from arm_emulator import Argument, Call, Program

from handglass.compiler.lowering.phases import calls_of
from handglass.compiler.lowering.task_arguments import items_of
from handglass.compiler.models.seed import SEED_JSON
from handglass.compiler.tuning.tuning_input import CompileOptions, TuningInput, shapes_of
from handglass.schedules import apply_rules
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.rule import patterns_of
from handglass.targets import Target, find_target
from handglass.targets.codegen.build import without_alias

FOLDER = Path("build/arm-counts")
CPU = "max,sve=off"
TARGETS = ("arm64", "android-arm64-i8mm")
DECODE, PICTURE = STEPS = ("decode", "picture")
MATMUL, ATTENTION, REST = KINDS = ("matmul", "attention", "norms and the rest")
MATMULS = frozenset({"dot4", "dot7", "dot8", "pair4", "pair8", "halves8", "matmul"})


@dataclass(frozen=True)
class Counted:
    """One kernel of a step."""

    name: str
    kind: str
    calls: int
    instructions: int
    """Of one call."""
    weights: int
    """Bytes of weights and their scales that one call reads."""
    llama: int | None = None
    """Instructions of llama.cpp's kernel for one row of the same shape."""

    @property
    def total(self) -> int:
        return self.calls * self.instructions


@dataclass(frozen=True)
class Step:
    """A part of an answer: a function of a model at some lengths."""

    function: str
    lengths: Mapping[str, int]


def decode_step(position: int) -> Step:
    return Step("decode", {"s": 1, "pos": position})


def picture_step(patches: int) -> Step:
    return Step("encode_image", {"n": patches, "strip": patches * SEED_JSON["patch_size"]})


def count_step(model: TuningInput, step: Step, folder: Path) -> list[Counted]:
    """Run every kernel of the step once and count it, in the order of their first calls."""
    calls = calls_of(model.mod[step.function])
    folder.mkdir(parents=True, exist_ok=True)
    names, others = [*calls, *arm_llama.NAMES], arm_llama.linked(FOLDER)
    program = Program(build(model, list(calls)), names, folder, others)
    return [_count(model, name, n, step, program) for name, n in calls.items()]


def build(model: TuningInput, names: Sequence[str]) -> Any:
    """The kernels, scheduled and compiled like those of a bundle."""
    device = tvm.target.Target(model.target.tvm)
    functions = {name: model.mod[name].with_attr("global_symbol", name) for name in names}
    with device:
        mod, _ = apply_rules(tvm.IRModule(functions), model.target.rules, device)
        mod = without_alias().passes[1](mod)
    return tvm.compile(mod, device).mod


def _count(model: TuningInput, name: str, calls: int, step: Step, program: Program) -> Counted:
    patterns = patterns_of(model.mod[name])
    kind = MATMUL if MATMULS & set(patterns) else ATTENTION if "attention" in patterns else REST
    items = items_of(model.mod[name], name, patterns, step.lengths)
    given = list(_arguments(items))
    _, counts = program.count(CPU, [Call(name, given)])
    ours = counts.of_object(program.object)
    if kind != MATMUL:
        return Counted(name, kind, calls, ours, 0)
    weights = sum(map(_weight_bytes, given))
    return Counted(name, kind, calls, ours, weights, _llama(model.target, given, program))


def _llama(target: Target, given: Sequence[Argument], program: Program) -> int | None:
    """llama.cpp's instructions for one row times Q4_0 of the shape of these 4-bit weights.

    None for other kernels. It takes the packing for SMMLA wherever the CPU has that instruction.
    """
    row, _, weight, *_ = (array for array in given if not isinstance(array, int))
    if len(row) > 1 or weight.dtype != np.uint8:
        return None
    panels, groups = weight.shape[:2]
    step = 8 if "i8mm" in target.features else 4
    call = arm_llama.one_row(panels * LANES, groups * 32, step)
    _, counts = program.count(CPU, [call])
    return counts.of_function(f"ggml_{call.name}")


def _weight_bytes(argument: Argument) -> int:
    """Weights and their scales are stored in panels, so they have three axes or more."""
    return 0 if isinstance(argument, int) or argument.ndim < 3 else argument.nbytes


def _arguments(items: Sequence[Mapping[str, Any]]) -> Iterator[Argument]:
    rng = np.random.default_rng(len(items))
    for item in items:
        yield item["int"] if "int" in item else _array(rng, item)


def _array(rng: np.random.Generator, item: Mapping[str, Any]) -> np.ndarray:
    """Random values as the device protocol describes them (docs/device-server.md)."""
    fill, shape, dtype = item["fill"], item["shape"], np.dtype(item["dtype"])
    if fill["kind"] == "uniform":
        return rng.integers(fill["low"], fill["high"] + 1, shape).astype(dtype)
    normal = rng.standard_normal(shape, np.float32) * np.float32(fill["scale"])
    if fill["kind"] == "bfloat16":
        return (normal.view(np.uint32) >> 16).astype(dtype)
    return normal.astype(dtype)


# --- tables ---


def table(rows: Sequence[Counted]) -> str:
    """One line per kernel, the largest first."""
    total = sum(row.total for row in rows)
    lines = [["kernel", "calls", "instructions of a call", "share", "llama.cpp"], ["---"] * 5]
    for row in sorted(rows, key=lambda row: -row.total):
        share, llama = f"{row.total / total:.1%}", "" if row.llama is None else f"{row.llama:,}"
        lines.append([f"`{row.name}`", str(row.calls), f"{row.instructions:,}", share, llama])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary(rows: Sequence[Counted], unit: str, units: int) -> str:
    """The sum of each kind of kernel, in all and for each of `units`."""
    sums = {kind: sum(r.total for r in rows if r.kind == kind) for kind in KINDS}
    sums["all"] = sum(sums.values())
    if any(row.llama for row in rows):
        sums["llama.cpp, matmul"] = sum(row.calls * (row.llama or 0) for row in rows)
    lines = [["", "instructions", f"per {unit}"], ["---"] * 3]
    digits = 0 if sums["all"] / units > 1000 else 4
    for kind, count in sums.items():
        lines.append([kind, f"{count:,}", f"{count / units:,.{digits}f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(model: TuningInput, name: str, position: int, patches: int) -> list[Counted]:
    """Count the step `name` of a model and print its tables."""
    target = model.target.name
    step = decode_step(position) if name == DECODE else picture_step(patches)
    rows = count_step(model, step, FOLDER / f"{target}-{name}")
    if name == DECODE:
        weights = sum(row.calls * row.weights for row in rows)
        title = f"a token at position {position}, {weights:,} bytes of weights"
        sums = summary(rows, "weight byte", weights)
    else:
        title, sums = f"a picture of {patches} patches", summary(rows, "patch", patches)
    print(f"\n{target}: {title}\n\n{table(rows)}\n\n{sums}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the instructions of whole steps.")
    parser.add_argument("--position", type=int, default=512, help="of the decoded token")
    parser.add_argument("--patches", type=int, default=32 * 32, help="of the picture")
    parser.add_argument("--target", nargs="+", default=TARGETS)
    parser.add_argument("--step", nargs="+", default=STEPS, choices=STEPS)
    given = parser.parse_args()
    if given.position < 0 or given.patches < 1:
        parser.error("--position must be at least 0 and --patches at least 1")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in given.target:
        model = shapes_of(SEED_JSON, CompileOptions(target=find_target(name).name))
        made: dict[str, Any] = {"position": given.position, "patches": given.patches}
        for step in given.step:
            counted = report(model, step, given.position, given.patches)
            made[step] = [asdict(row) for row in counted]
        (FOLDER / f"step-{name}.json").write_text(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
