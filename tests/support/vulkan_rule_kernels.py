"""Small kernels, each for one feature of shaders.

Unless noted otherwise, one workgroup of 32 threads, in which thread t reads and writes element t.
"""

# mypy: disable-error-code="valid-type"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

THREADS = 32
MANY = 17
"""More scalars of 8 bytes than fit in 128 bytes of push constants."""


def each(compute: Callable[..., Any], result: str, *dtypes: str, lanes: int = 1) -> tirx.PrimFunc:
    """y[t] = compute(x0[t], x1[t], ...) as `result`, `lanes` neighbours at a time."""
    x = [te.placeholder((THREADS * lanes,), dtype, name=f"x{i}") for i, dtype in enumerate(dtypes)]
    y = te.compute((THREADS * lanes,), lambda i: compute(*(one[i] for one in x)), name="y")
    assert y.dtype == result, y.dtype
    sch = Schedule(te.create_prim_func([*x, y]))
    thread, lane = sch.split(sch.get_loops("y")[0], [THREADS, lanes])
    sch.bind(thread, "threadIdx.x")
    if lanes > 1:
        sch.vectorize(lane)
    return sch.mod["main"]


@T.prim_func(s_tir=True)
def branches(x: T.Buffer((32,), "float32"), y: T.Buffer((32,), "float32")) -> None:
    """An `if` nested in an `else`."""
    for t in T.thread_binding(32, "threadIdx.x"):
        if x[t] > T.float32(0):
            y[t] = x[t] * T.float32(2)
        else:
            if x[t] < T.float32(-1):
                y[t] = T.float32(-1)


@T.prim_func(s_tir=True)
def nested_loops(x: T.Buffer((32, 6), "float32"), y: T.Buffer((32,), "float32")) -> None:
    """y = sum of x[j] over j < i < 6: the extent of the inner loop is the outer loop variable."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[t] = T.float32(0)
        for i in range(6):
            for j in range(i):
                y[t] = y[t] + x[t, j]


@T.prim_func(s_tir=True)
def halving(x: T.Buffer((32,), "int32"), y: T.Buffer((32,), "int32")) -> None:
    """y = the number of times x can be halved before it is 0, or odd and above 99."""
    for t in T.thread_binding(32, "threadIdx.x"):
        rest = T.alloc_buffer((1,), "int32", scope="local")
        rest[0] = x[t]
        y[t] = 0
        while rest[0] > 0:
            if rest[0] > 99 and rest[0] % 2 == 1:
                break
            rest[0] = rest[0] // 2
            y[t] = y[t] + 1


@T.prim_func(s_tir=True)
def leaving(x: T.Buffer((32, 16), "float32"), y: T.Buffer((32,), "float32")) -> None:
    """y = the sum of a row up to its first value above 9, without negative values, three times; the
    `break` leaves only the inner loop."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[t] = T.float32(0)
        for _ in range(3):
            for k in range(16):
                if x[t, k] < T.float32(0):
                    continue
                if x[t, k] > T.float32(9):
                    break
                y[t] = y[t] + x[t, k]
            y[t] = y[t] + T.float32(1)


@T.prim_func(s_tir=True)
def guarded(
    x: T.Buffer((32,), "float32"), at: T.Buffer((32,), "int32"), y: T.Buffer((32,), "float32")
) -> None:
    """y = x[at] if the index is in bounds, else -1."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[t] = T.if_then_else(at[t] >= 0 and at[t] < 32, x[at[t]], T.float32(-1))


@T.prim_func(s_tir=True)
def mirrored(x: T.Buffer((32,), "float32"), y: T.Buffer((32,), "float32")) -> None:
    """y[t] = x[31 - t], through shared memory."""
    for t in T.thread_binding(32, "threadIdx.x"):
        with T.sblock("all"):
            T.reads(x[0:32])
            T.writes(y[0:32])
            shared = T.alloc_buffer((32,), "float32", scope="shared")
            shared[t] = x[t]
            T.tvm_storage_sync("shared")
            y[t] = shared[31 - t]


@T.prim_func(s_tir=True)
def bytes_as_words(x: T.Buffer((512,), "int8"), y: T.Buffer((512,), "int8")) -> None:
    """y = floor(x / 2), with one load of 16 bytes per thread."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[T.Ramp(t * 16, 1, 16)] = x[T.Ramp(t * 16, 1, 16)] >> T.Broadcast(T.int8(1), 16)


@T.prim_func(s_tir=True)
def bytes_apart(x: T.Buffer((129,), "int8"), y: T.Buffer((128,), "int8")) -> None:
    """y[i] = x[i + 1]: vectors of four bytes that are not aligned to words."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[T.Ramp(t * 4, 1, 4)] = x[T.Ramp(t * 4 + 1, 1, 4)]


@T.prim_func(s_tir=True)
def dot_of_bytes(
    a: T.Buffer((32,), "int32"), b: T.Buffer((32,), "int32"), y: T.Buffer((32,), "int32")
) -> None:
    """The dot product of four signed bytes, plus 7."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[t] = T.call_pure_extern("int32", "__dp4a", a[t], b[t], 7)


@T.prim_func(s_tir=True)
def dot_of_vectors(
    a: T.Buffer((128,), "uint8"), b: T.Buffer((128,), "uint8"), y: T.Buffer((32,), "uint32")
) -> None:
    """The dot product of four unsigned bytes, as vectors."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[t] = T.call_pure_extern(
            "uint32", "__dp4a", a[T.Ramp(t * 4, 1, 4)], b[T.Ramp(t * 4, 1, 4)], T.uint32(0)
        )


@T.prim_func(s_tir=True)
def dot_of_both(
    a: T.Buffer((32,), "int32"), b: T.Buffer((32,), "int32"), y: T.Buffer((32,), "int32")
) -> None:
    """The dot product of four signed bytes and four unsigned bytes."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[t] = T.call_pure_extern("int32", "vk.dot4_signed_unsigned", a[t], b[t], 0)


@T.prim_func(s_tir=True)
def words_of_bytes(x: T.Buffer((512,), "int8"), y: T.Buffer((128,), "int32")) -> None:
    """Reinterprets 16 bytes as four int32."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[T.Ramp(t * 4, 1, 4)] = T.reinterpret("int32x4", x[T.Ramp(t * 16, 1, 16)])


@T.prim_func(s_tir=True)
def halves_of_words(x: T.Buffer((64,), "int32"), y: T.Buffer((128,), "float16")) -> None:
    """Reinterprets two int32 as four float16."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[T.Ramp(t * 4, 1, 4)] = T.reinterpret("float16x4", x[T.Ramp(t * 2, 1, 2)])


@T.prim_func(s_tir=True)
def long_of_bytes(x: T.Buffer((256,), "uint8"), y: T.Buffer((32,), "int64")) -> None:
    """Reinterprets eight bytes as one int64."""
    for t in T.thread_binding(32, "threadIdx.x"):
        y[t] = T.reinterpret("int64", x[T.Ramp(t * 8, 1, 8)])


def scaled(count: int) -> tirx.PrimFunc:
    """y = x * s0 + s1 + ... with `count` scalars, alternately floats and integers."""
    x = te.placeholder((THREADS,), "float32", name="x")
    s = [tirx.Var(f"s{i}", ("float32", "int32")[i % 2]) for i in range(count)]

    def compute(i: Any) -> Any:
        value = x[i] * s[0]
        for one in s[1:]:
            value = value + tirx.Cast("float32", one)
        return value

    y = te.compute((THREADS,), compute, name="y")
    sch = Schedule(te.create_prim_func([x, *s, y]))
    sch.bind(sch.get_loops("y")[0], "threadIdx.x")
    return sch.mod["main"]
