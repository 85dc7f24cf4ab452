"""Register tiles for 512 bits: correct on any machine, and without spills in the machine code."""

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from test_amx import HOST, M
from test_integer_matmul import normal, placeholder, product, run
from tolerance import KERNEL
from tvm import te, tirx

from handglass.compiler.ops.matmul import matmul
from handglass.compiler.schemes.integer import Integer
from handglass.compiler.schemes.quantize import find_scheme
from handglass.schedules import CPU_RULES
from handglass.schedules.isa.register_tiles import YMM, ZMM_FLOATS
from handglass.schedules.rule import schedule_function
from handglass.schedules.select import find_units

pytestmark = [pytest.mark.compiler, pytest.mark.levels]

X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}


@pytest.mark.parametrize("tile", [YMM, ZMM_FLOATS], ids=["ymm", "zmm"])
@pytest.mark.parametrize("n", [48, 64])
def test_register_tiles_of_floats_hold_everywhere(tile: Any, n: int) -> None:
    """The tile for 512 bits is also correct with 256-bit registers."""
    scheme = find_scheme("f32")
    x = placeholder((M, 50), "float32", "x")
    parts = [placeholder(s, d, name) for name, (s, d) in scheme.shapes(n, 50).items()]
    y = matmul(x, n, 50, scheme.read(parts), tile)
    func = te.create_prim_func([x, *parts, y]).with_attr("global_symbol", "main")
    taken = schedule_function(func, CPU_RULES, HOST)
    assert taken is not None
    kernel = tvm.compile(taken[0].mod, HOST)["main"]
    for m in (2, 12, 25):
        rows, weight = normal(m, 50), normal(n, 50)
        (got,) = run(kernel, [rows, *scheme.pack(weight).values()], np.zeros((m, n), np.float32))
        KERNEL.check(got, rows.astype(np.float64) @ weight.T)


WIDE = {**X86, "mcpu": "x86-64-v4", "mattr": ["+avx512vnni"]}


def wide_floats() -> tirx.PrimFunc:
    scheme, x = find_scheme("f32"), placeholder((M, 256), "float32", "x")
    parts = [placeholder(s, d, name) for name, (s, d) in scheme.shapes(64, 256).items()]
    y = matmul(x, 64, 256, scheme.read(parts), ZMM_FLOATS)
    return te.create_prim_func([x, *parts, y]).with_attr("global_symbol", "main")


@pytest.mark.parametrize("bits", [4, 8, 32])
def test_wide_register_tiles_do_not_spill(bits: int) -> None:
    """The innermost loop keeps 12 rows of 16 integer sums, or 12 of 32 floats, in registers."""
    target = tvm.target.Target(WIDE)
    scheme = Integer("s", bits, 0.0, units=find_units(target))
    func = wide_floats() if bits == 32 else product(M, 64, 256, scheme)
    taken = schedule_function(func, CPU_RULES, target)
    assert taken is not None
    text = tvm.compile(taken[0].mod, target).mod.inspect_source("asm")
    multiply = r"\t(?:vfmadd\w+|vpdpbusd)\t.*%zmm"
    blocks = [block.split("\n\tj")[0] for block in re.split(r"\n(?=\.LBB)", text)]  # up to a jump
    body = max(blocks, key=lambda block: len(re.findall(multiply, block)))
    assert len(re.findall(multiply, body)) >= 12
    assert not re.search(r"%zmm\d+, -?\d*\(%rsp\)|\(%rsp\), %zmm", body)
