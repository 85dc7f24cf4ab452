"""Selects between vectors by one condition, written so that TVM's CUDA generator gets them right.

It declares the repeated condition with the type of the values, which is no valid C++: "no suitable
user-defined conversion from "ushort4" to "float4" exists". Conditions that differ by lane are fine.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.ir import prim


def with_branches(mod: ir.IRModule) -> ir.IRModule:
    """The module with a branch in place of every Select of vectors by one condition."""
    changed = {
        var: func.with_body(tvm_ffi.structural_map(func.body, (prim.Select, _branch)))
        if isinstance(func, tirx.PrimFunc)
        else func
        for var, func in mod.functions.items()
    }
    return ir.IRModule(changed, attrs=mod.attrs)


def _branch(select: prim.Select) -> Any:
    condition = select.condition
    if not isinstance(condition, prim.Broadcast):
        return select
    return tirx.if_then_else(condition.value, select.true_value, select.false_value)
