"""Reductions (sum, max, min) over threads of a workgroup by subgroup operations.

TVM lowers a reduction across threads to a tree in shared memory, with a barrier per level. Two
kinds become calls instead, with the suffix `_add`, `_max` or `_min`:

`vk.lanes_`: the reduced threads differ in a few low bits of their linear index, all within one
subgroup of the size that the target states (`subgroup-32` in its `mattr`). Each bit is an exchange
between two lanes, without memory and barriers. Which bits these are follows from thread axes whose
extents are powers of two: adjacent threads, or threads with a stride of 4, for example.

`vk.workgroup_`: over the whole workgroup, if the target claims subgroup arithmetic. Every subgroup
reduces its threads and writes one number to shared memory, and after a barrier all threads combine
these. The size of a subgroup and its threads need not be known.

Other reductions, those of several values, and those of types that subgroup operations may not
support, keep TVM's tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.ir import prim
from tvm.tirx import stmt as S

from .capabilities import SUBGROUP_ARITHMETIC, SUBGROUP_SHUFFLE, subgroup_size

NAMES = {prim.Add: "add", prim.Max: "max", prim.Min: "min"}
DTYPES = ("float32", "float16", "int32", "uint32")
# The size of a workgroup must be a multiple of this, which fills the widest subgroups (Adreno):
# Mesa 22.3's software driver omits a partial last subgroup (for 12 threads it returns the sum of 8,
# as if NumSubgroups were rounded down). Mesa 26's does not, with the same SPIR-V.
WHOLE_SUBGROUPS = 128
OPERATIONS = "supported_subgroup_operations"


@dataclass(frozen=True)
class Threads:
    """Thread axes of a workgroup: extents by tag, and tags by variable."""

    extents: dict[str, int]
    tags: dict[tirx.Var, str]


@dataclass(frozen=True)
class Way:
    """What the target claims: lanes guaranteed in a subgroup, and subgroup arithmetic."""

    lanes: int
    workgroup: bool

    @staticmethod
    def of(attributes: Mapping[str, Any]) -> Way:
        operations = int(attributes.get(OPERATIONS, 0))
        lanes = subgroup_size(attributes) if operations & SUBGROUP_SHUFFLE else 0
        return Way(lanes, bool(operations & SUBGROUP_ARITHMETIC))


def is_vulkan(func: Any) -> bool:
    """Whether the function's target is Vulkan."""
    target = (func.attrs or {}).get("target")
    return target is not None and target.kind.name == "vulkan"


def lower_reductions(func: tirx.PrimFunc, *_: object) -> tirx.PrimFunc:
    """Replace the supported reductions in `func` by calls."""
    if not is_vulkan(func):
        return func
    threads, way = _threads(func), Way.of(func.attrs["target"].attrs)
    if threads is None or not (way.lanes or way.workgroup):
        return func
    replace = _replacement(threads, way)
    return func.with_body(tvm_ffi.structural_map(func.body, (S.AttrStmt, replace)))


def _threads(func: tirx.PrimFunc) -> Threads | None:
    """The thread axes of a workgroup; None if one has several extents or a dynamic one."""
    found: list[S.AttrStmt] = []
    tvm_ffi.structural_walk(func.body, (S.AttrStmt, found.append))
    threads = Threads({}, {})
    for stmt in found:
        if stmt.attr_key == "thread_extent" and str(stmt.node.thread_tag).startswith("threadIdx"):
            tag = str(stmt.node.thread_tag)
            if not isinstance(stmt.value, prim.IntImm):
                return None
            if threads.extents.setdefault(tag, int(stmt.value)) != int(stmt.value):
                return None
            threads.tags[stmt.node.var] = tag
    return threads


def _replacement(threads: Threads, way: Way) -> Callable[[S.AttrStmt], Any]:
    def replace(stmt: S.AttrStmt) -> Any:
        if stmt.attr_key != "reduce_scope" or not isinstance(stmt.body, S.Evaluate):
            return stmt
        return _in_subgroups(stmt.node, stmt.body.value, threads, way) or stmt

    return replace


def _in_subgroups(
    reducer: tirx.CommReducer, call: ir.Call, threads: Threads, way: Way
) -> tirx.BufferStore | None:
    """Call operands: number of values, the values, a condition, the results, the axes."""
    count, value, condition, result, *axes = call.args
    name = NAMES.get(type(reducer.result[0]))
    if int(count) != 1 or name is None or str(value.ty.dtype) not in DTYPES:
        return None
    if not (isinstance(condition, prim.IntImm) and int(condition) == 1):
        return None
    tags = {threads.tags[axis] for axis in axes if isinstance(axis, ir.Var)}
    bits = _bits(tags, threads)
    if bits and 2 * max(bits) <= way.lanes:
        function, operands = f"vk.lanes_{name}", [tirx.const(bit, "int32") for bit in bits]
    elif way.workgroup and _is_whole(tags, threads):
        function, operands = f"vk.workgroup_{name}", []
    else:
        return None
    number = tirx.call_pure_extern(str(value.ty.dtype), function, value, *operands)
    return tirx.BufferStore(result.source, number, result.indices)


def _bits(tags: set[str], threads: Threads) -> list[int]:
    """The bits of a linear thread index that the axes `tags` span; [] if they do not span bits."""
    bits, stride = [], 1
    for tag in sorted(threads.extents):  # x varies fastest
        extent = threads.extents[tag]
        if tag in tags and extent > 1:
            if stride & (stride - 1) or extent & (extent - 1):
                return []
            bits += [stride << n for n in range(extent.bit_length() - 1)]
        stride *= extent
    return bits


def _is_whole(tags: set[str], threads: Threads) -> bool:
    whole = prod(threads.extents.values())
    return whole % WHOLE_SUBGROUPS == 0 and prod(threads.extents[tag] for tag in tags) == whole
