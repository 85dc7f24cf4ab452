"""Counts the instructions of ARM kernels in an emulator, and those of llama.cpp on the same data.

    python benchmarks/arm_counts.py

Both are linked into one program and run once under qemu-aarch64; the results must agree. Counts are
exact and reproducible on every machine. Cycles are llvm-mca's estimate for the innermost loop,
which ignores memory. llama.cpp's sources come from the llama_cpp_python sdist, which pip downloads
into build/. Prints Markdown tables and writes build/arm-counts/counts.json. Nothing is measured on
hardware.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import arm_llama
import numpy as np
import tvm
from arm_emulator import Argument, Call, Counts, MissingToolError, Program
from arm_mca import disassembled, find_mca, hottest, mca_version, on_cores
from tvm import te, tirx

from handglass.compiler.models import layers
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.compiler.schemes.scheme import selection_of
from handglass.schedules import apply_rules
from handglass.schedules.select import find_units
from handglass.targets import Target, find_target
from handglass.targets.codegen.build import without_alias

FOLDER = Path("build/arm-counts")
N, K, ROWS = 1536, 1536, 64
ONE_GROUP = 8 * 4 * 32
"""Multiply-adds of the block used as unit of the prefill table: 8 rows, 4 outputs, 32 inputs."""
PER_INSTRUCTION = {"sdot": 16, "smmla": 32}
CPU = "max,sve=off"


@dataclass(frozen=True)
class Problem:
    """4-bit weights of `N` outputs, and rows of int8 activations with one scale per 32 inputs."""

    weight: np.ndarray  # (panels, groups, 4, 16, 4) uint8, as `w4a8` stores it for SDOT
    scale: np.ndarray  # (panels, groups, 16) float16
    x: np.ndarray  # (m, K) int8
    x_scale: np.ndarray  # (m, groups) float16

    @property
    def rows(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    rows: int
    instructions: int
    loop: int
    """Instructions in one iteration of the innermost loop."""
    products: int
    """Multiply-adds in one iteration."""
    cycles: dict[str, float | None]
    """Modeled cycles per iteration, by core."""


def problem(m: int) -> Problem:
    rng = np.random.default_rng(m)
    scheme = SCHEMES["w4a8"].on(find_units(tvm.target.Target(find_target("arm64").tvm)))
    parts = scheme.pack(rng.standard_normal((N, K), np.float32))
    x = rng.integers(-127, 128, (m, K)).astype(np.int8)
    scale = rng.uniform(0.5, 2, (m, K // 32)).astype(np.float16)
    return Problem(parts["weight"], parts["scale"], x, scale)


# --- ours ---


def function(target: Target, m: int) -> tirx.PrimFunc:
    """The `w4a8` matmul for `target`, for one row or a symbolic number of rows."""
    scheme = SCHEMES["w4a8"].on(find_units(tvm.target.Target(target.tvm)))
    codes = scheme.codes
    assert codes is not None and not codes.zero
    int64 = lambda n: tirx.IntImm("int64", n)  # noqa: E731
    rows = int64(1) if m == 1 else tirx.Var("m", "int64")
    x = te.placeholder((rows, int64(K)), codes.activation, "x")
    scale = te.placeholder((rows, int64(K // 32)), "float32", "x_scale")
    parts = [
        te.placeholder(list(map(int64, shape)), dtype, name)
        for name, (shape, dtype) in scheme.shapes(N, K).items()
    ]
    kernel = selection_of(scheme).kernel(m == 1)
    y = layers.product(scheme, kernel, (N, K), 2, x, scale, *parts)
    return te.create_prim_func([x, scale, *parts, y])


def module(target: Target, m: int, name: str) -> Any:
    """The matmul, scheduled and compiled like the kernels of a bundle."""
    device = tvm.target.Target(target.tvm)
    func = function(target, m).with_attr("global_symbol", name)
    with device:
        mod, _ = apply_rules(tvm.IRModule({name: func}), target.rules, device)
        mod = without_alias().passes[1](mod)
    return tvm.compile(mod, device).mod


def arguments(p: Problem) -> list[Argument]:
    """The kernel's arguments. Products of nibbles are 16 times too large; the scale corrects it."""
    scale = p.x_scale.astype(np.float32) / 16
    return [p.x, scale, p.weight, p.scale, np.zeros((p.rows, N), np.float32)]


# --- llama.cpp's ---


def llama_weights(p: Problem, step: int) -> np.ndarray:
    """q4_0 in blocks of 4 outputs: 4 float16 scales, then `step` bytes of each output in turn."""
    panels, groups = p.scale.shape[:2]
    scale = p.scale.reshape(panels, groups, 4, 4).transpose(0, 2, 1, 3)
    byte = p.weight.reshape(panels, groups, 16 // step, step // 4, 4, 4, 4)  # v v b j e
    byte = byte.transpose(0, 4, 1, 2, 5, 3, 6).reshape(panels, 4, groups, 64)
    return np.concatenate([np.ascontiguousarray(scale).view(np.uint8), byte], axis=-1)


def llama_rows(p: Problem, step: int) -> np.ndarray:
    """Activations as q8_0; several rows in fours, `step` bytes of each row in turn."""
    together = 1 if p.rows == 1 else 4
    x = p.x.reshape(-1, together, K // 32, 32 // step, step).transpose(0, 2, 3, 1, 4)
    x = x.reshape(-1, K // 32, 32 * together).view(np.uint8)
    scale = p.x_scale.reshape(-1, together, K // 32).transpose(0, 2, 1)
    return np.concatenate([np.ascontiguousarray(scale).view(np.uint8), x], axis=-1)


def llama_call(p: Problem, kind: str, step: int) -> Call:
    result = np.zeros((p.rows, N), np.float32)
    given: list[Argument] = [llama_weights(p, step), llama_rows(p, step), K, result]
    return Call(f"{kind}_q4_0_4x{step}_q8_0", given)


# --- both ---


def compare(
    target: Target, m: int, kind: str, steps: tuple[int, ...], mca: str | None
) -> list[Row]:
    """Count our kernel and llama.cpp's for each of `steps`, in one emulated run."""
    p, repack = problem(m), arm_llama.kernels(FOLDER)
    ours = Call("handglass", arguments(p))
    theirs = [llama_call(p, kind, step) for step in steps]
    compiled = module(target, m, ours.name)
    names = [call.name for call in (ours, *theirs)]
    folder = FOLDER / f"{target.name}-{m}"
    folder.mkdir(parents=True, exist_ok=True)
    program = Program(compiled, ["handglass", *arm_llama.NAMES], folder, arm_llama.linked(FOLDER))
    results, counts = program.count(CPU, [ours, *theirs])
    check_agreement(dict(zip(names, (arrays[-1] for arrays in results), strict=True)))
    instruction = "smmla" if kind == "gemm" and "i8mm" in target.features else "sdot"
    rows = [row(f"handglass, {target.name}", m, counts.of_object(program.object),
                compiled.inspect_source("asm"), instruction, mca)]  # fmt: skip
    for call in theirs:
        rows.append(llama_row(call.name, m, counts, repack, mca))
    return rows


def llama_row(name: str, m: int, counts: Counts, repack: Path, mca: str | None) -> Row:
    symbol = f"ggml_{name}"
    text = disassembled(repack, symbol)
    instruction = "smmla" if "smmla" in text else "sdot"
    return row(f"llama.cpp `{symbol}`", m, counts.of_function(symbol), text, instruction, mca)


def check_agreement(results: dict[str, np.ndarray]) -> None:
    (_, first), *others = results.items()
    for name, result in others:
        error = np.abs(result - first).max() / np.abs(first).max()
        assert error < 2e-5, f"{name} differs from ours by {error:.2g}"


def row(name: str, m: int, count: int, text: str, instruction: str, mca: str | None) -> Row:
    loop = hottest(text, instruction)
    products = loop.count(instruction) * PER_INSTRUCTION[instruction]
    modelled = on_cores(mca, loop) if mca else {}
    return Row(name, m, count, len(loop.instructions), products, modelled)


def table(rows: list[Row]) -> str:
    """Format as Markdown: per weight byte for one row, per block of 8 x 4 x 32 for many."""
    one = rows[0].rows == 1
    unit, per = ("weight byte", 2) if one else ("8 x 4 x 32 block", ONE_GROUP)
    block = 128 if one else ONE_GROUP  # 64 bytes of nibbles
    cores = list(rows[0].cycles)
    head = ["kernel", "instructions", f"per {unit}", *(f"cycles, {core}" for core in cores)]
    lines = [head, ["---"] * len(head)]
    for r in rows:
        total = r.rows * N * K
        lines.append([r.name, f"{r.instructions:,}", f"{r.instructions * per / total:.3f}"])
        for core in cores:
            modelled = r.cycles[core]
            lines[-1].append("" if modelled is None else f"{modelled * block / r.products:.1f}")
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    try:
        mca: str | None = find_mca()
    except MissingToolError as error:
        print(f"no cycles: {error}")
        mca = None
    board, phone = find_target("arm64"), find_target("android-arm64-i8mm")
    tables = {
        f"one row, {N}x{K}, 4-bit weights; cycles per 64 bytes of weights": [
            *compare(board, 1, "gemv", (4, 8), mca),
            compare(phone, 1, "gemv", (4,), mca)[0],
        ],
        f"{ROWS} rows, the same; cycles per block": [
            *compare(board, ROWS, "gemm", (4,), mca),
            *compare(phone, ROWS, "gemm", (8,), mca),
        ],
    }
    for title, rows in tables.items():
        print(f"\n{title}\n\n{table(rows)}")
    report = {title: [asdict(r) for r in rows] for title, rows in tables.items()}
    versions = {"llama_cpp_python": arm_llama.VERSION, "llvm-mca": mca and mca_version(mca)}
    (FOLDER / "counts.json").write_text(json.dumps({"versions": versions, **report}, indent=1))


if __name__ == "__main__":
    main()
