"""Sums and extremes over all threads of a workgroup, by subgroup operations.

TVM lowers a reduction across threads to a tree in shared memory, with a barrier for every level.
Where the target claims subgroup arithmetic, a reduction over the whole workgroup becomes a call of
`vk.workgroup_add`, `_max` or `_min`: every subgroup reduces itself, writes one number to shared
memory, and after a barrier all threads combine these. How wide a subgroup is need not be known, nor
which threads it has. Reductions over some axes of a workgroup, of several values or of types that a
device need not have in subgroup operations keep TVM's tree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.ir import prim
from tvm.tirx import stmt as S

from .capabilities import SUBGROUP_ARITHMETIC

NAMES = {prim.Add: "vk.workgroup_add", prim.Max: "vk.workgroup_max", prim.Min: "vk.workgroup_min"}
DTYPES = ("float32", "float16", "int32", "uint32")
# Threads of a workgroup come in this many, which fills the widest subgroups there are (Adreno's):
# with one that is not full, Mesa 22.3's software driver (8 wide, 12 threads) gave wrong sums.
WHOLE_SUBGROUPS = 128
OPERATIONS = "supported_subgroup_operations"


@dataclass(frozen=True)
class Threads:
    """Axes of a workgroup: their extents by tag, and the tags of their variables."""

    extents: dict[str, int]
    tags: dict[tirx.Var, str]


def lower_reductions(func: tirx.PrimFunc, *_: object) -> tirx.PrimFunc:
    """`func` with calls in place of the reductions that can be such."""
    target = (func.attrs or {}).get("target")
    if target is None or target.kind.name != "vulkan":
        return func
    if not int(target.attrs.get(OPERATIONS, 0)) & SUBGROUP_ARITHMETIC:
        return func
    threads = _threads(func)
    if threads is None:
        return func
    replace = _replacement(threads)
    return func.with_body(tvm_ffi.structural_map(func.body, (S.AttrStmt, replace)))


def _threads(func: tirx.PrimFunc) -> Threads | None:
    """The axes of a workgroup; None where one has not one constant extent."""
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


def _replacement(threads: Threads) -> Callable[[S.AttrStmt], Any]:
    def replace(stmt: S.AttrStmt) -> Any:
        if stmt.attr_key != "reduce_scope" or not isinstance(stmt.body, S.Evaluate):
            return stmt
        return _whole_workgroup(stmt.node, stmt.body.value, threads) or stmt

    return replace


def _whole_workgroup(
    reducer: tirx.CommReducer, call: ir.Call, threads: Threads
) -> tirx.BufferStore | None:
    """The call's operands are: how many values, the values, a condition, the results, the axes."""
    count, value, condition, result, *axes = call.args
    name = NAMES.get(type(reducer.result[0]))
    if int(count) != 1 or name is None or str(value.ty.dtype) not in DTYPES:
        return None
    if not (isinstance(condition, prim.IntImm) and int(condition) == 1):
        return None
    tags = {threads.tags[axis] for axis in axes if isinstance(axis, ir.Var)}
    whole = prod(threads.extents.values())
    if whole % WHOLE_SUBGROUPS or prod(threads.extents[tag] for tag in tags) != whole:
        return None
    number = tirx.call_pure_extern(str(value.ty.dtype), name, value)
    return tirx.BufferStore(result.source, number, result.indices)
