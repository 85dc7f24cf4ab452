"""Machine code for tile registers: required and forbidden instructions. No code is run."""

import re
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from test_amx import M, floats
from test_integer_matmul import product
from thinned import thinned
from tvm import tirx

from handglass.compiler.schemes.integer import Integer
from handglass.compiler.schemes.quantize import find_scheme
from handglass.schedules import CPU_RULES
from handglass.schedules.cpu.amx import RULE
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


EVEN, ODD, ONE = (64, 4), (48, 4), (16, 5)
"""Outputs, and loads of tiles for four products of each pair of panels."""


@pytest.mark.parametrize(
    ("machine", "kernel", "size"), thinned(3, MACHINES, KERNELS, [EVEN, ODD, ONE])
)
def test_machine_code(machine: str, kernel: str, size: tuple[int, int]) -> None:
    """One configuration, before the loops. Each sum is stored once, so there are no spills.

    Four products take four tile loads for a pair of panels, and five for a single panel.
    """
    (make, instruction), (n, loads) = KERNELS[kernel], size
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
    found = hot_loop({"results": choice, "ahead": 0})
    fetched = [name for name in found if name.startswith("prefetch")]
    assert found.count("tdpbsud") > 0
    assert len(fetched) == (found.count("tdpbsud") if choice else 0)


@pytest.mark.parametrize("choice", [0, 1])
def test_weights_of_the_next_task_are_fetched(choice: int) -> None:
    """512 lines over 16 blocks of 16 steps of four products each."""
    found = hot_loop({"ahead": choice})
    fetched = [name for name in found if name.startswith("prefetch")]
    assert fetched == ["prefetcht1"] * (found.count("tdpbsud") // 2 if choice else 0)


@pytest.mark.parametrize("choice", [0, 1])
def test_results_bypass_the_caches(choice: int) -> None:
    """Whole lines do, and the task fences before others may read them."""
    text = code(64, {"results": 2 if choice else 1})
    assert ("vmovntps" in text) == ("lock" in text) == bool(choice)  # lock orl
    assert not {"vmovntps", "lock"} & set(code(60, {"overlap": choice}))


@pytest.mark.parametrize("choice", [0, 1])
def test_results_are_computed_while_tiles_multiply(choice: int) -> None:
    found = hot_loop({"overlap": choice})
    products = [n for n, name in enumerate(found) if name == "tdpbsud"]
    stored = found.index("tilestored", products[0])
    assert ("vcvtdq2ps" in found[products[0] : stored]) == bool(choice)


@pytest.mark.parametrize("choice", [0, 1])
def test_rows_bypass_the_first_cache(choice: int) -> None:
    found = hot_loop({"streamed": choice})
    hinted = 2 * found.count("tileloaddt1")
    assert hinted == (found.count("tileloadd") + found.count("tileloaddt1") if choice else 0)


def hot_loop(choices: dict[str, int]) -> list[str]:
    """The instructions from the first cleared tile to the last stored one; 16 input steps."""
    found = code(64, choices)
    last = max(n for n, name in enumerate(found) if name == "tilestored")
    return found[found.index("tilezero") : last]


def code(n: int, choices: dict[str, int]) -> list[str]:
    """The instructions of a product of bytes with n outputs."""
    target = tvm.target.Target(MACHINES["x86-64-amx"])
    func = product(M, n, 1024, Integer("s", 8, 0.0, units=TILES))
    sch = replay(func, RULE, target, choices)
    text = tvm.compile(configure_tiles()(sch.mod), target).mod.inspect_source("asm")
    return [line.split()[0] for line in text.splitlines() if re.match(r"\s+[a-z]", line)]
