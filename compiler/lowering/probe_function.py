"""Exported wrapper functions of probe kernels: see probes.py."""

from __future__ import annotations

from tvm import relax, tirx

READ_WIDTH = 64
"""Floats per step of `probe_read`: 8 accumulators of 8 lanes (AVX2), 4 of 16 (AVX-512), 16 of 4
(NEON), 64 threads."""


def add_read(builder: relax.BlockBuilder, kernel: tirx.PrimFunc) -> None:
    """probe_read: (tasks, steps, 64) float32 -> (tasks, 64)"""
    tasks, steps = tirx.Var("tasks", "int64"), tirx.Var("steps", "int64")
    data = relax.Var("data", relax.TensorType((tasks, steps, READ_WIDTH), "float32"))
    sums = relax.TensorType((tasks, READ_WIDTH), "float32")
    _export(builder, "probe_read", [data], kernel, [data], sums)


def add_chains(
    builder: relax.BlockBuilder, name: str, kernel: tirx.PrimFunc, width: int, dtype: str
) -> None:
    """Shape(tasks, rounds) -> (tasks, width); two operations per round and value."""
    tasks, rounds = tirx.Var("tasks", "int64"), tirx.Var("rounds", "int64")
    size = relax.Var("size", relax.ShapeType([tasks, rounds]))
    out = relax.TensorType((tasks, width), dtype)
    _export(builder, name, [size], kernel, [relax.prim_value(rounds)], out)


def _export(
    builder: relax.BlockBuilder,
    name: str,
    params: list,
    kernel: tirx.PrimFunc,
    given: list,
    out: relax.TensorType,
) -> None:
    """Add a function that only calls the kernel."""
    ready = kernel.with_attr("tirx.is_scheduled", True).with_attr("tirx.noalias", True)
    var = builder.add_func(ready, f"{name}_kernel")
    with builder.function(name, params):
        with builder.dataflow():
            result = builder.emit_output(relax.call_tir(var, given, out_ty=out))
        builder.emit_func_output(result)
