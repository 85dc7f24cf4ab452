"""Reductions (sum, max, min) over threads of a workgroup by operations between lanes.

TVM lowers a reduction across threads to a tree in shared memory, with a barrier per level. Two
kinds become calls instead, with the suffix `add`, `max` or `min`, which a code generator knows:

`handglass_lanes_`: the reduced threads differ in a few low bits of their linear index, all within
one subgroup (a warp) of the size that the target guarantees. Each bit is an exchange between two
lanes, without memory and barriers. Which bits these are follows from thread axes whose extents are
powers of two: adjacent threads, or threads with a stride of 4, for example.

`handglass_workgroup_`: over the whole workgroup, if the target can. Every subgroup reduces its
threads and writes one number to shared memory, and after a barrier all threads combine these.

Other reductions, those of several values, and those of types that such operations may not support,
keep TVM's tree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.ir import prim
from tvm.target import Target
from tvm.tirx import stmt as S

NAMES = {prim.Add: "add", prim.Max: "max", prim.Min: "min"}
DTYPES = ("float32", "float16", "int32", "uint32")
LANES, WORKGROUP = "handglass_lanes_", "handglass_workgroup_"
"""Prefixes of the calls."""


@dataclass(frozen=True)
class Way:
    """What a target guarantees."""

    lanes: int = 0
    """Threads of a subgroup, at least; 0 if they cannot exchange values."""
    whole: int = 0
    """Workgroups whose size is a multiple of this can be reduced as a whole; 0 if none can."""


WAYS: dict[str, Callable[[Target], Way]] = {}
"""TVM target kind -> what a target of this kind guarantees; set by the code generators."""


@dataclass(frozen=True)
class Threads:
    """Thread axes of a workgroup: extents by tag, and tags by variable."""

    extents: dict[str, int]
    tags: dict[tirx.Var, str]


def kind_of(func: Any) -> str:
    """The target kind of a function of device code, if it has an entry in WAYS; else empty."""
    target = (func.attrs or {}).get("target")
    name = "" if target is None else str(target.kind.name)
    return name if name in WAYS else ""


def lower_reductions(func: tirx.PrimFunc, *_: object) -> tirx.PrimFunc:
    """Replace the supported reductions in `func` by calls."""
    if not (kind := kind_of(func)):
        return func
    threads, way = _threads(func), WAYS[kind](func.attrs["target"])
    if threads is None or not (way.lanes or way.whole):
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
        return _by_lanes(stmt.node, stmt.body.value, threads, way) or stmt

    return replace


def _by_lanes(
    reducer: tirx.CommReducer, call: ir.Call, threads: Threads, way: Way
) -> tirx.BufferStore | None:
    """Call operands: number of values, the values, a condition, the results, the axes."""
    count, value, condition, result, *axes = call.args
    name, dtype = NAMES.get(type(reducer.result[0])), str(value.ty.dtype)
    if int(count) != 1 or name is None or dtype not in DTYPES:
        return None
    if not (isinstance(condition, prim.IntImm) and int(condition) == 1):
        return None
    tags = {threads.tags[axis] for axis in axes if isinstance(axis, ir.Var)}
    bits = _bits(tags, threads)
    if bits and 2 * max(bits) <= way.lanes:
        function, operands = LANES + name, [tirx.const(bit, "int32") for bit in bits]
    elif _is_whole(tags, threads, way):
        function, operands = WORKGROUP + name, []
    else:
        return None
    wide = "float32" if dtype == "float16" else dtype  # as exact, and exchanged by every GPU
    number = tirx.call_pure_extern(wide, function, tirx.Cast(wide, value), *operands)
    return tirx.BufferStore(result.source, tirx.Cast(dtype, number), result.indices)


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


def _is_whole(tags: set[str], threads: Threads, way: Way) -> bool:
    size = prod(threads.extents.values())
    reduced = prod(threads.extents[tag] for tag in tags)
    return way.whole > 0 and size % way.whole == 0 and reduced == size
