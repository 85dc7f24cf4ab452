"""Asynchronous copies from global to shared memory (cp.async) as tensor intrinsics."""

from __future__ import annotations

from tvm import DataType, tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from . import device_functions as device

WIDE = 16
"""Bytes that a thread copies at once."""
OPERANDS = "shared.dyn"
"""Scope of operands: together they are larger than static shared memory."""
Pair = tuple[tirx.PrimFunc, tirx.PrimFunc]


def copied(stored: str) -> int:
    """Elements of a type that a thread copies at once."""
    return WIDE // int(DataType(stored).itemsize)


def copy_of(stored: str) -> str:
    """Register the copy of 16 bytes of this type to shared memory, and return its name."""
    full = f"handglass.copy.{stored}"
    if TensorIntrin.get(full, allow_missing=True) is None:
        TensorIntrin.register(full, *_copy(stored))
    return full


def _copy(stored: str) -> Pair:
    n = copied(stored)

    @T.prim_func(s_tir=True)
    def description(source: T.handle, memory: T.handle) -> None:
        g = T.match_buffer(source, (n,), stored, offset_factor=n, align=WIDE)
        m = T.match_buffer(memory, (n,), stored, offset_factor=n, align=WIDE, scope=OPERANDS)
        with T.sblock("root"):
            T.reads(g[0:n])
            T.writes(m[0:n])
            for i in T.serial(T.int64(n)):
                with T.sblock("copy"):
                    vi = T.axis.spatial(n, i)
                    m[vi] = g[vi]

    @T.prim_func(s_tir=True)
    def implementation(source: T.handle, memory: T.handle) -> None:
        g = T.match_buffer(source, (n,), stored, offset_factor=n, align=WIDE)
        m = T.match_buffer(memory, (n,), stored, offset_factor=n, align=WIDE, scope=OPERANDS)
        with T.sblock("root"):
            T.reads(g[0:n])
            T.writes(m[0:n])
            T.evaluate(
                T.cuda.func_call(
                    device.COPY.name,
                    m.access_ptr("w"),
                    g.access_ptr("r"),
                    source_code=device.COPY.code,
                )
            )

    return description, implementation
