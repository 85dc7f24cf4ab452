"""Small GPU kernels, one per feature that drivers implement wrongly, with results from numpy.

Each is scheduled by hand, so that it uses the feature its family is named after and little else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from handglass.schedules import PROBES_BY_KIND
from handglass.schedules.gpu.limits import gpu_limits

THREADS = 64
ROWS, COLUMNS = 37, 4 * THREADS  # an odd number of rows
NORMAL = {"kind": "normal", "scale": 1.0}
BYTES = {"kind": "uniform", "low": -(1 << 31), "high": (1 << 31) - 1}
ZERO = {"kind": "constant", "value": 0}


@dataclass(frozen=True)
class Known:
    """`answer` computes the last argument, which is the result, from the others."""

    family: str
    name: str
    func: tirx.PrimFunc
    items: list[dict[str, Any]]
    answer: Callable[..., np.ndarray]
    floor_db: float | None


def known_kernels(target: Target, kind: str) -> Iterator[Known]:
    """Yield the kernels that devices of a target, of this kind, can run."""
    yield _element_wise("float32", 100.0)
    if gpu_limits(target).half:
        yield _element_wise("float16", 50.0)
    yield _dot_product()
    yield _reversed_in_shared_memory()
    yield _sum_across_threads()
    yield _maximum_across_threads()
    if gpu_limits(target).products:
        yield _products_of_warps(kind)


def _element_wise(dtype: str, floor_db: float) -> Known:
    shape = (ROWS, COLUMNS)
    x, y = (te.placeholder(shape, dtype, name=name) for name in "xy")

    def value(*at: Any) -> Any:
        return te.exp(-x(*at) * x(*at)) + x(*at) * y(*at)

    func = te.create_prim_func([x, y, te.compute(shape, value, name="out")])
    sch = Schedule(func)
    _spread(sch, sch.fuse(*sch.get_loops(sch.get_sblock("out"))))

    def answer(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        wide, other = x.astype(np.float64), y.astype(np.float64)
        return (np.exp(-wide * wide) + wide * other).astype(dtype)

    items = [_tensor(shape, dtype, fill) for fill in (NORMAL, NORMAL, ZERO)]
    name = f"exp and products in {dtype}"
    return Known(f"element-wise {dtype}", name, sch.mod["main"], items, answer, floor_db)


def _dot_product() -> Known:
    """Dot products of four signed bytes."""
    rows, words = ROWS, COLUMNS
    a = te.placeholder((rows, words), "int32", name="a")
    b = te.placeholder((words,), "int32", name="b")
    k = te.reduce_axis((0, words), name="k")

    def dot(i: Any) -> Any:
        zero = tirx.const(0, "int32")
        return te.sum(tirx.call_pure_extern("int32", "__dp4a", a[i, k], b[k], zero), axis=k)

    func = te.create_prim_func([a, b, te.compute((rows,), dot, name="out")])
    sch = Schedule(func)
    _spread(sch, sch.get_loops(sch.get_sblock("out"))[0])

    def answer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        wide = a.view(np.int8).astype(np.int64) @ b.view(np.int8).astype(np.int64)
        return wide.astype(np.int32)

    items = [_tensor((rows, words), "int32", BYTES), _tensor((words,), "int32", BYTES)]
    items.append(_tensor((rows,), "int32", ZERO))
    return Known("int8 dot product", "rows of bytes", sch.mod["main"], items, answer, None)


def _reversed_in_shared_memory() -> Known:
    """Each thread writes one value and, after a barrier, reads the value of another thread."""
    shape = (ROWS, THREADS)
    x = te.placeholder(shape, "float32", name="x")
    out = te.compute(shape, lambda i, j: x[i, THREADS - 1 - j] * 2.0, name="out")
    sch = Schedule(te.create_prim_func([x, out]))
    block = sch.get_sblock("out")
    row, column = sch.get_loops(block)
    copy = sch.cache_read(block, 0, "shared")
    sch.compute_at(copy, row)
    sch.bind(row, "blockIdx.x")
    sch.bind(column, "threadIdx.x")
    sch.bind(sch.get_loops(copy)[-1], "threadIdx.x")
    items = [_tensor(shape, "float32", fill) for fill in (NORMAL, ZERO)]
    answer = lambda x: (x[:, ::-1] * np.float32(2)).astype(np.float32)  # noqa: E731
    return Known("shared memory", "rows turned around", sch.mod["main"], items, answer, None)


def _sum_across_threads() -> Known:
    answer = lambda x: x.astype(np.float64).sum(axis=1).astype(np.float32)  # noqa: E731
    return _across_threads("sums of rows", te.sum, answer, 100.0)


def _maximum_across_threads() -> Known:
    return _across_threads("maxima of rows", te.max, lambda x: x.max(axis=1), None)


def _across_threads(
    name: str, reducer: Any, answer: Callable[..., np.ndarray], floor_db: float | None
) -> Known:
    x = te.placeholder((ROWS, COLUMNS), "float32", name="x")
    k = te.reduce_axis((0, COLUMNS), name="k")
    out = te.compute((ROWS,), lambda i: reducer(x[i, k], axis=k), name="out")
    sch = Schedule(te.create_prim_func([x, out]))
    row, column = sch.get_loops(sch.get_sblock("out"))
    _, lane = sch.split(column, [None, THREADS])
    sch.bind(row, "blockIdx.x")
    sch.bind(lane, "threadIdx.x")
    items = [_tensor((ROWS, COLUMNS), "float32", NORMAL), _tensor((ROWS,), "float32", ZERO)]
    return Known("sums across threads", name, sch.mod["main"], items, answer, floor_db)


def _products_of_warps(kind: str) -> Known:
    """Products of matrices that the lanes of a warp hold together."""
    probe = PROBES_BY_KIND[kind]
    side, columns = probe.SIDE, probe.COLUMNS
    a, b, out = (ROWS * side, side), (side, columns), (ROWS * side, columns)
    answer = lambda a, b: (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)  # noqa: E731
    items = [_tensor(a, "float16", NORMAL), _tensor(b, "float16", NORMAL)]
    items.append(_tensor(out, "float32", ZERO))
    name = "float16 products of 16 inputs"
    return Known("tensor cores", name, probe.product_probe(ROWS), items, answer, 100.0)


def _spread(sch: Schedule, loop: Any) -> None:
    outer, inner = sch.split(loop, [None, THREADS])
    sch.bind(outer, "blockIdx.x")
    sch.bind(inner, "threadIdx.x")


def _tensor(shape: tuple[int, ...], dtype: str, fill: Mapping[str, Any]) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": dtype, "fill": dict(fill)}
