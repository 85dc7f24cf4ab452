"""Reductions across the threads of a workgroup: in subgroups, or as a tree in shared memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import te, tirx
from tvm.s_tir import Schedule
from vulkan_running import needs_vulkan, operations, run, shaders
from vulkan_targets import EIGHT, PORTABLE, SUBGROUP

from handglass.targets.codegen.vulkan.enable import enable_compiler
from handglass.targets.codegen.vulkan.opcodes import Capability, Op

pytestmark = pytest.mark.compiler
OPERATIONS: dict[str, tuple[Any, Any]] = {
    "sum": (te.sum, np.sum),
    "max": (te.max, np.max),
    "min": (te.min, np.min),
}


def rows(operation: Any, dtype: str, length: int, threads: int, layout: str) -> tirx.PrimFunc:
    """Reduce each row of (6, length), with all threads of a workgroup or along one thread axis."""
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


def few(operation: Any, dtype: str, axes: str, x: int, y: int) -> tirx.PrimFunc:
    """Reduce 3 slices of (4, 2 * y, x) with threads (z 4, y, x) along the thread axes `axes`."""
    data = te.placeholder((3, 4, 2 * y, x), dtype, name="data")
    extents = {"z": 4, "y": 2 * y, "x": x}
    inner = {axis: te.reduce_axis((0, extents[axis]), axis) for axis in axes}
    outer = [axis for axis in "zyx" if axis not in axes]

    def one(i: tirx.Var, *others: tirx.Var) -> Any:
        at = {**dict(zip(outer, others, strict=True)), **inner}
        return operation(data[i, at["z"], at["y"], at["x"]], axis=list(inner.values()))

    result = te.compute((3, *(extents[axis] for axis in outer)), one, name="result")
    sch = Schedule(te.create_prim_func([data, result]))
    block, *loops = sch.get_loops("result")
    sch.bind(block, "blockIdx.x")
    for axis, loop in zip([*outer, *axes], loops, strict=True):
        if axis == "y":
            loop = sch.split(loop, [None, y])[1]
        sch.bind(loop, f"threadIdx.{axis}")
    return sch.mod["main"]


def test_a_cluster_needs_no_memory_and_says_how_wide_it_is() -> None:
    (shader,) = shaders(few(te.sum, "float32", "y", 4, 2), EIGHT)
    ops = operations(shader.words)
    assert Op.GroupNonUniformShuffleXor in ops and Op.ControlBarrier not in ops
    assert b"handglass.subgroup >= 8\0" in np.asarray(shader.words, "<u4").tobytes()


@pytest.mark.parametrize(
    ("axes", "x", "y"), [("y", 4, 4), ("x", 16, 2), ("z", 4, 2), ("y", 3, 2), ("x", 3, 2)]
)
def test_what_is_no_cluster_goes_through_memory(axes: str, x: int, y: int) -> None:
    """Too wide for a subgroup, or thread indices that do not form a cluster of bits."""
    (shader,) = shaders(few(te.sum, "float32", axes, x, y), EIGHT)
    ops = operations(shader.words)
    assert Op.GroupNonUniformShuffleXor not in ops and Op.ControlBarrier in ops


@needs_vulkan
@pytest.mark.parametrize(
    ("axes", "x", "y"),
    [("x", 8, 2), ("x", 4, 3), ("y", 4, 2), ("y", 1, 8), ("x", 2, 4), ("yx", 2, 4), ("y", 3, 2)],
)
@pytest.mark.parametrize(
    ("name", "dtype"), [("sum", "float32"), ("max", "float16"), ("min", "int32")]
)
def test_numbers_of_clusters(name: str, dtype: str, axes: str, x: int, y: int) -> None:
    operation, reference = OPERATIONS[name]
    data = np.random.default_rng(4).uniform(-90, 90, (3, 4, 2 * y, x)).astype(dtype)
    expected = reference(data, axis=tuple("izyx".index(axis) for axis in axes))
    *_, result = run(
        few(operation, dtype, axes, x, y), data, np.full_like(expected, 7), target=EIGHT
    )
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-3)


@needs_vulkan
@pytest.mark.parametrize("target", [PORTABLE, SUBGROUP, EIGHT], ids=["shared", "any", "eight"])
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
