"""Reductions across threads on emulated hardware: exchanges between lanes, whole blocks, trees."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the code generator needs the TVM compiler")
from emulator.launch import Module
from generated import source_of
from test_code import TARGET, ptx_of
from tolerance import FLOAT32
from tvm import te
from tvm.s_tir import Schedule

from handglass.targets.codegen.cuda.nvrtc import Nvrtc

pytestmark = [pytest.mark.compiler, pytest.mark.cuda]

BLOCKS = 3
REDUCERS: dict[str, tuple[Any, Any]] = {
    "sum": (te.sum, np.sum),
    "max": (te.max, np.max),
    "min": (te.min, np.min),
}


def reduced(name: str, dtype: str, rows: int, threads: int, columns: int, axes: str) -> Schedule:
    """`rows` results per block, each of `threads`; `axes` are (row, thread) of threadIdx."""
    a = te.placeholder((BLOCKS, rows, columns), dtype, name="a")
    k = te.reduce_axis((0, columns), name="k")
    out = te.compute((BLOCKS, rows), lambda i, j: REDUCERS[name][0](a[i, j, k], axis=k), name="out")
    sch = Schedule(te.create_prim_func([a, out]))
    i, j, k = sch.get_loops(sch.get_sblock("out"))
    thread = sch.split(k, [None, threads])[1]
    sch.bind(i, "blockIdx.x")
    sch.bind(j, f"threadIdx.{axes[0]}")
    sch.bind(thread, f"threadIdx.{axes[1]}")
    return sch


@pytest.mark.parametrize(
    ("rows", "threads", "axes", "call"),
    [
        (4, 16, "yx", "handglass_lanes"),
        (3, 32, "yx", "handglass_lanes"),  # one warp per row
        (8, 4, "xy", "handglass_lanes"),  # lanes with a stride of 8
        (1, 8, "yx", "handglass_lanes"),  # a block of a quarter of a warp
        (3, 8, "yx", "handglass_lanes"),  # ... and of three quarters
        (1, 96, "yx", "handglass_workgroup"),
        (1, 1024, "yx", "handglass_workgroup"),
        (3, 48, "yx", ""),
        (2, 64, "yx", ""),
    ],
)
def test_sums(any_nvrtc: Nvrtc, rows: int, threads: int, axes: str, call: str) -> None:
    check(any_nvrtc, "sum", "float32", rows, threads, axes, call)


@pytest.mark.parametrize("dtype", ["float32", "int32", "float16"])
@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("threads", [32, 64])
def test_extremes(any_nvrtc: Nvrtc, name: str, dtype: str, threads: int) -> None:
    call = "handglass_lanes" if threads == 32 else "handglass_workgroup"
    check(any_nvrtc, name, dtype, 1, threads, "yx", call)


def check(
    nvrtc: Nvrtc, name: str, dtype: str, rows: int, threads: int, axes: str, call: str
) -> None:
    columns = 5 * threads
    made = source_of(reduced(name, dtype, rows, threads, columns, axes), TARGET).source
    assert (call in made) if call else ("handglass_" not in made)
    values = np.random.default_rng(threads).uniform(-99, 99, (BLOCKS, rows, columns)).astype(dtype)
    out = np.zeros((BLOCKS, rows), dtype)
    arrays: dict[str, Any] = {"a": values, "out": out}
    order = re.findall(r"(\w+)_ptr", re.findall(r"main_kernel\((.*?)\)", made)[0])
    block = {axes[0]: rows, axes[1]: threads}
    size = (block["x"], block["y"], 1)
    Module(ptx_of(nvrtc, made)).launch(
        "main_kernel", (BLOCKS, 1, 1), size, *(arrays[one] for one in order)
    )
    expected = REDUCERS[name][1](values, axis=2)
    if name == "sum":
        FLOAT32.check(out, expected)
    else:
        assert np.array_equal(out, expected)
