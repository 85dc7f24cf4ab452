"""Machine code for tile registers: required and forbidden instructions. No code is run."""

import re
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from test_amx import M, floats
from test_integer_matmul import placeholder, product
from tvm import te, tirx
from tvm.s_tir import Schedule

from handglass.compiler.models import layers
from handglass.compiler.ops import exponential
from handglass.compiler.schemes.integer import Integer
from handglass.compiler.schemes.quantize import find_scheme
from handglass.compiler.schemes.scheme import selection_of
from handglass.schedules import CPU_RULES
from handglass.schedules.choices import Noted
from handglass.schedules.cpu.amx import RULE, schedule_tiles
from handglass.schedules.isa.amx_configuration import configure_tiles
from handglass.schedules.isa.integer_isa import AMX, find_integer_isa
from handglass.schedules.rule import replay, schedule_function
from handglass.schedules.select import cpu_units
from handglass.targets import known_targets

pytestmark = pytest.mark.compiler

X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}
MACHINES = {
    "x86-64-amx": known_targets()["x86-64-amx"].tvm,
    "sapphirerapids": {**X86, "mcpu": "sapphirerapids"},
}


def assembly(func: tirx.PrimFunc, machine: dict[str, Any]) -> str:
    target = tvm.target.Target(machine)
    taken = schedule_function(func, CPU_RULES, target)
    assert taken is not None and taken[1].name == "cpu-tiles"
    return tvm.compile(configure_tiles()(taken[0].mod), target).mod.inspect_source("asm")


TILES = cpu_units(AMX)
KERNELS: dict[str, tuple[Callable[[int, int], tirx.PrimFunc], str]] = {
    "bf16": (lambda n, k: floats(find_scheme("bf16", TILES), n, k), "tdpbf16ps"),
    "w4a8": (lambda n, k: floats(find_scheme("w4a8", TILES), n, k), "tdpbf16ps"),
    "w8a8": (lambda n, k: product(M, n, k, Integer("s", 8, 0.0, units=TILES)), "tdpbsud"),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("n", "loads"), [(64, 4), (48, 5)], ids=["even", "odd"])
def test_machine_code(machine: str, kernel: str, n: int, loads: int) -> None:
    """One configuration, before the loops. Each sum is stored once, so there are no spills.

    Four products take four tile loads for a pair of panels, and five for a single panel.
    """
    make, instruction = KERNELS[kernel]
    assert find_integer_isa(tvm.target.Target(MACHINES[machine])) is AMX
    lines = assembly(make(n, 512), MACHINES[machine]).splitlines()
    code = [line.split()[0] for line in lines if re.match(r"\s+[a-z]", line)]
    assert code.count("ldtilecfg") == code.count("tilerelease") == 1
    awake = kernel == "w4a8"  # a product without a use, per group that is unpacked
    products, copies = code.count(instruction) - awake, code.count("tilestored") // 4  # unrolled
    assert products > 0 and products % 4 == 0 and code.count("tilestored") == 4 * copies
    assert code.count("tilezero") == 4 * copies
    assert code.count("tileloadd") + code.count("tileloaddt1") == loads * (products // 4)
    assert not [line for line in lines if "\ttile" in line and "%rsp" in line]
    task = lines[: next(i for i, line in enumerate(lines) if "ldtilecfg" in line)]
    task = task[max(i for i, line in enumerate(task) if "parallel_lambda" in line) + 1 :]
    assert not [line for line in task if line.startswith(".LBB")], "configured in a loop"
    assert code.index("ldtilecfg") < code.index("tilezero")


@pytest.mark.parametrize("machine", MACHINES)
def test_nibbles_are_unpacked_in_few_instructions(machine: str) -> None:
    """Per 64 bytes: one shift in each direction. No permutation joins the codes of a pair."""
    func = floats(find_scheme("w4a8", TILES), 64, 512)
    code = re.findall(r"^\s+(v\w+).*zmm", assembly(func, MACHINES[machine]), re.MULTILINE)
    assert code.count("vfmadd213ps") == 32 and code.count("vpslld") == 4
    assert "vpermt2w" not in code


@pytest.mark.parametrize("choice", [0, 1])
def test_written_lines_are_fetched_while_tiles_multiply(choice: int) -> None:
    """64 lines of a block of 32 x 32 over 16 steps of four products each."""
    found = hot_loop({"prefetch": choice})
    fetched = [name for name in found if name.startswith("prefetch")]
    assert found.count("tdpbsud") > 0
    assert len(fetched) == (found.count("tdpbsud") if choice else 0)


@pytest.mark.parametrize("choice", [0, 1])
def test_rows_bypass_the_first_cache(choice: int) -> None:
    found = hot_loop({"streamed": choice})
    hinted = 2 * found.count("tileloaddt1")
    assert hinted == (found.count("tileloadd") + found.count("tileloaddt1") if choice else 0)


def hot_loop(choices: dict[str, int]) -> list[str]:
    """The instructions from the first cleared tile to the last stored one; 16 input steps."""
    target = tvm.target.Target(MACHINES["x86-64-amx"])
    func = product(M, 64, 1024, Integer("s", 8, 0.0, units=TILES))
    sch = replay(func, RULE, target, choices)
    text = tvm.compile(configure_tiles()(sch.mod), target).mod.inspect_source("asm")
    code = [line.split()[0] for line in text.splitlines() if re.match(r"\s+[a-z]", line)]
    last = max(n for n, name in enumerate(code) if name == "tilestored")
    return code[code.index("tilezero") : last]


def test_an_activation_fetches_nothing_ahead() -> None:
    """Its arithmetic takes as long as the stores, and the prefetches would only be in the way."""
    noted = Noted()
    biased = floats(find_scheme("bf16", TILES), 64, 96)
    assert schedule_tiles(Schedule(biased), noted) and noted.values["prefetch"] == 1
    noted = Noted()
    assert schedule_tiles(Schedule(activated(64, 96)), noted) and noted.values["prefetch"] == 0


def activated(n: int, k: int) -> tirx.PrimFunc:
    """Many rows times a weight, then GELU."""
    scheme, x = find_scheme("bf16", TILES), placeholder((M, k), "float32", "x")
    parts = [placeholder(s, d, name) for name, (s, d) in scheme.shapes(n, k).items()]
    y = layers.product(scheme, selection_of(scheme).many_rows, (n, k), 1, x, *parts)
    return te.create_prim_func([x, *parts, exponential.gelu_tanh(y)])
