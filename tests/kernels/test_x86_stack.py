"""What x86 kernels keep on the stack: how it is aligned, and that no hot loop of AVX2 uses it."""

import re

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from levels import BY_INSTRUCTION, LEVELS
from test_integer_matmul import TARGETS, multiplied, normal, product, quantized, run
from tolerance import KERNEL
from tvm import tirx
from tvm.s_tir import Schedule

from handglass.compiler.schemes.integer import Integer
from handglass.schedules.cpu.dot import schedule_dot
from handglass.schedules.isa.aligned_stack import align_stack
from handglass.schedules.isa.amx_configuration import configure_tiles
from handglass.schedules.isa.parallel_task import LAUNCH
from handglass.schedules.select import cpu_units
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

REALIGNS = re.compile(r"\tandq\s+\$-64, %rsp")
INNERMOST = re.compile(r"^(\.LBB\w+):.*\n((?:\t.*\n)*?)\tj\w+\s+\1\n", re.MULTILINE)


def scheme_of(level: str) -> Integer:
    return Integer("s", 4, 0.0, units=cpu_units(LEVELS[level].isa))


def aligned(level: str, m: tirx.Var) -> tvm.IRModule:
    """A 4-bit matmul, as it is compiled for a model, by the real instructions on any machine."""
    sch = Schedule(product(m, 48, 96, scheme_of(level)))
    assert schedule_dot(sch, LEVELS[level].isa)
    return align_stack(tvm.target.Target(TARGETS[level]))(sch.mod)


def assembly(level: str, mod: tvm.IRModule) -> str:
    return tvm.compile(mod, tvm.target.Target(TARGETS[level])).mod.inspect_source("asm")


@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_each_task_aligns_its_stack(level: str) -> None:
    mod = aligned(level, tirx.Var("m", "int64"))
    tasks = mod.script().count("T.parallel(")
    assert len(REALIGNS.findall(assembly(level, mod))) == tasks == 4


def test_tasks_with_tiles_align_theirs_too() -> None:
    amx = tvm.target.Target(find_target("x86-64-amx").tvm)
    scheme = Integer("s", 8, 0.0, units=cpu_units(LEVELS["amx"].isa))
    func = product(tirx.Var("m", "int64"), 48, 96, scheme)
    mod = configure_tiles()(LEVELS["amx"].schedule(func).mod)
    launches = mod.script().count(LAUNCH)
    assert launches and align_stack(amx)(mod).script().count("tensormap") == launches


def test_a_cpu_with_narrow_vectors_needs_no_alignment() -> None:
    """The ABI of ARM, and that of x86 without AVX, align a stack to all of their vectors."""
    mod = LEVELS["plain"].schedule(product(7, 48, 96, scheme_of("plain"))).mod
    for level in ("sdot", "plain"):
        assert align_stack(tvm.target.Target(TARGETS[level]))(mod).script() == mod.script()


def test_sums_of_nibbles_stay_in_registers() -> None:
    """12 sums, two vectors of weights, the activations and a product are 16 registers."""
    loops = INNERMOST.findall(assembly("avx2", aligned("avx2", tirx.Var("m", "int64"))))
    hot = [body for _, body in loops if body.count("vpmaddubsw") == 12]
    assert len(hot) == 1 and "(%rsp" not in hot[0] and "(%rbp" not in hot[0]


def test_the_aligned_kernel_is_right() -> None:
    """Seven rows: a full register tile and one row of the next."""
    level = BY_INSTRUCTION[0]
    scheme = scheme_of(level.name)
    mod = align_stack(tvm.target.Target(level.target.tvm))(
        level.schedule(product(tirx.Var("m", "int64"), 48, 96, scheme)).mod
    )
    kernel = tvm.compile(mod, tvm.target.Target(level.target.tvm))["main"]
    parts, x = scheme.pack(normal(48, 96)), quantized(normal(7, 96), scheme.codes, 96)
    (y,) = run(kernel, [*x, *parts.values()], np.zeros((7, 48), np.float32))
    KERNEL.check(y, multiplied(x, scheme.unpack(parts, 48, 96), scheme.codes))
