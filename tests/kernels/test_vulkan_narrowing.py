"""Narrowing of indices to 32 bits: never in functions whose data would lose precision."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T
from vulkan_elementwise import apply, elementwise
from vulkan_running import needs_vulkan, run, shaders
from vulkan_targets import BARE, PORTABLE

from handglass.targets.codegen.vulkan.opcodes import Capability, Op

# mypy: disable-error-code="valid-type"

pytestmark = pytest.mark.compiler
INT64 = (2 << 16 | Op.Capability, Capability.Int64)


def asks_for_int64(func: tirx.PrimFunc) -> bool:
    (shader,) = shaders(func, PORTABLE)
    return INT64 in zip(shader.words, shader.words[1:], strict=False)


def gather() -> tirx.PrimFunc:
    """Rows of a table by 32-bit ids, with 64-bit indices as in Relax."""
    n = tirx.Var("n", "int64")
    table = te.placeholder((tirx.IntImm("int64", 20), tirx.IntImm("int64", 6)), "float32", "table")
    ids = te.placeholder((n,), "int32", "ids")
    rows = te.compute((n, 6), lambda i, j: table[ids[i].astype("int64"), j], name="rows")
    sch = Schedule(te.create_prim_func([table, ids, rows]))
    i, j = sch.get_loops("rows")
    sch.bind(i, "blockIdx.x")
    sch.bind(j, "threadIdx.x")
    return sch.mod["main"]


def test_indices_are_narrow_on_any_target() -> None:
    assert not asks_for_int64(gather())
    assert shaders(gather(), BARE)
    assert not asks_for_int64(elementwise(lambda x: x + x, ["float32"]))


def product(x: tirx.Var) -> tirx.PrimExpr:
    wide = tirx.Cast("int64", x) * tirx.const(3_000_000_000, "int64")
    return tirx.Cast("float32", wide >> tirx.const(20, "int64"))


def test_data_is_not() -> None:
    assert asks_for_int64(elementwise(product, ["int32"]))
    assert asks_for_int64(total)


@T.prim_func(s_tir=True)
def total(x: T.Buffer((32, 9), "int64"), y: T.Buffer((32,), "int64")) -> None:
    """Row sums in a 64-bit array, which TVM's narrowing pass rejects."""
    for t in T.thread_binding(32, "threadIdx.x"):
        kept = T.alloc_buffer((1,), "int64", scope="local")
        kept[0] = T.int64(0)
        for k in range(9):
            kept[0] = kept[0] + x[t, k]
        y[t] = kept[0]


@T.prim_func(s_tir=True)
def chosen(x: T.Buffer((128,), "uint8"), y: T.Buffer((128,), "int32")) -> None:
    """A vector cast in a condition, on which TVM's narrowing pass fails."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[T.Ramp(t * 4, 1, 4)] = T.Select(
            T.Cast("int32x4", x[T.Ramp(t * 4, 1, 4)]) > T.Broadcast(T.int32(100), 4),
            T.Broadcast(T.int32(1), 4),
            T.Broadcast(T.int32(0), 4),
        )


@needs_vulkan
def test_numbers() -> None:
    random = np.random.default_rng(3)
    x = random.integers(0, 2**31, 333).astype(np.int32)
    wide = (x.astype(np.int64) * 3_000_000_000) >> 20
    np.testing.assert_array_equal(apply(product, x, result="float32"), wide.astype(np.float32))
    rows = random.integers(-(2**58), 2**58, (32, 9))
    *_, sums = run(total, rows, np.zeros(32, np.int64))
    np.testing.assert_array_equal(sums, rows.sum(1))
    few = random.integers(0, 256, 128).astype(np.uint8)
    *_, over = run(chosen, few, np.zeros(128, np.int32), target=BARE)
    np.testing.assert_array_equal(over, few > 100)
    table, ids = random.uniform(-1, 1, (20, 6)).astype(np.float32), np.array([19, 0, 7], np.int32)
    *_, found = run(gather(), table, ids, np.zeros((3, 6), np.float32), target=BARE)
    np.testing.assert_array_equal(found, table[ids])
