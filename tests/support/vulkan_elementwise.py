"""Element-wise functions of one or more arrays, scheduled for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.s_tir import Schedule
from vulkan_running import run

Compute = Callable[..., Any]


def elementwise(compute: Compute, dtypes: list[str], threads: int = 32) -> tirx.PrimFunc:
    """`compute(a, b, ...)` over the elements of arrays of `dtypes` and symbolic length, one element
    per thread."""
    n = te.var("n", "int64")
    arrays = [te.placeholder((n,), dtype, name=f"x{i}") for i, dtype in enumerate(dtypes)]
    result = te.compute((n,), lambda i: compute(*(array[i] for array in arrays)), name="y")
    sch = Schedule(te.create_prim_func([*arrays, result]))
    (i,) = sch.get_loops("y")
    block, thread = sch.split(i, [None, threads])
    sch.bind(block, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    return sch.mod["main"]


def apply(
    compute: Compute,
    *arrays: np.ndarray,
    result: str,
    target: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Run `compute` on vulkan:0. Returns an array of dtype `result`."""
    func = elementwise(compute, [str(array.dtype) for array in arrays])
    return run(func, *arrays, np.zeros(len(arrays[0]), result), target=target)[-1]
