"""Reductions across the threads of a workgroup, by subgroups and by TVM's tree in shared memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import te, tirx
from tvm.s_tir import Schedule
from vulkan_running import needs_vulkan, run, shaders
from vulkan_targets import PORTABLE, SUBGROUP

from handglass.targets.vulkan.enable import enable_compiler
from handglass.targets.vulkan.opcodes import Capability, Op

pytestmark = pytest.mark.compiler
OPERATIONS: dict[str, tuple[Any, Any]] = {
    "sum": (te.sum, np.sum),
    "max": (te.max, np.max),
    "min": (te.min, np.min),
}


def rows(operation: Any, dtype: str, length: int, threads: int, layout: str) -> tirx.PrimFunc:
    """One number of each row of (6, length): by all threads of a workgroup, or along one axis."""
    x = te.placeholder((6, length), dtype, name="x")
    k = te.reduce_axis((0, length), "k")
    y = te.compute((6,), lambda i: operation(x[i, k], axis=k), name="y")
    sch = Schedule(te.create_prim_func([x, y]))
    i, k = sch.get_loops("y")
    _, inner = sch.split(k, [None, threads])
    block, group = sch.split(i, [None, 1 if layout == "whole" else 3])
    sch.bind(block, "blockIdx.x")
    if layout == "strided":
        sch.bind(group, "threadIdx.x")
        sch.bind(inner, "threadIdx.y")
    else:
        sch.bind(inner, "threadIdx.x")
        if layout == "rows":
            sch.bind(group, "threadIdx.y")
    return sch.mod["main"]


def has_subgroups(func: tirx.PrimFunc, target: dict[str, Any]) -> bool:
    enable_compiler()
    (shader,) = shaders(func, target)
    wanted = 2 << 16 | Op.Capability, Capability.GroupNonUniformArithmetic
    return wanted in zip(shader.words, shader.words[1:], strict=False)


def test_only_whole_workgroups_and_claimed_operations() -> None:
    whole = rows(te.sum, "float32", 333, 128, "whole")
    assert has_subgroups(whole, SUBGROUP)
    assert not has_subgroups(whole, PORTABLE)
    for layout in ("whole", "strided"):  # 64 threads do not fill every device's subgroup
        assert not has_subgroups(rows(te.sum, "float32", 333, 64, layout), SUBGROUP)


@needs_vulkan
@pytest.mark.parametrize("target", [PORTABLE, SUBGROUP], ids=["shared", "subgroup"])
@pytest.mark.parametrize(
    ("length", "threads"), [(333, 128), (333, 64), (100, 12), (7, 1), (64, 256)]
)
@pytest.mark.parametrize("layout", ["whole", "rows", "strided"])
@pytest.mark.parametrize(
    ("name", "dtype"), [("sum", "float32"), ("max", "float16"), ("min", "int32")]
)
def test_numbers(
    name: str, dtype: str, layout: str, length: int, threads: int, target: dict[str, Any]
) -> None:
    if layout != "whole":
        threads = min(threads, 64)
    operation, reference = OPERATIONS[name]
    x = (np.random.default_rng(4).uniform(-90, 90, (6, length))).astype(dtype)
    func = rows(operation, dtype, length, threads, layout)
    *_, y = run(func, x, np.zeros(6, dtype), target=target)
    np.testing.assert_allclose(y, reference(x, axis=1), rtol=1e-4, atol=1e-3)
