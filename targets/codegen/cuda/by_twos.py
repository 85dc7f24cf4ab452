"""Loops whose rounds alternate between two places in memory: two rounds of the loop become one.

Where a round is, `k % 2`, is then a number. Otherwise every address of a round depends on it, and
for newer chips the compiler makes each of them from it anew: on sm_120, 150 of the 489 instructions
of a loop over tiles.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.s_tir.transform import ConvertSSA

from handglass.schedules.rule import BY_TWOS


def by_twos(mod: ir.IRModule) -> ir.IRModule:
    """The module with two rounds in one of each loop that says `BY_TWOS`, and the last one of an
    odd number after it."""
    changed = {
        var: func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, _paired)))
        if isinstance(func, tirx.PrimFunc)
        else func
        for var, func in mod.functions.items()
    }
    return ConvertSSA()(ir.IRModule(changed, attrs=mod.attrs))


def _paired(loop: tirx.For) -> Any:
    rounds = int(loop.extent) if isinstance(loop.extent, tirx.IntImm) else 0
    if not loop.annotations.get(BY_TWOS) or rounds < 2:
        return loop
    dtype = str(loop.loop_var.ty.dtype)
    pair, zero = tirx.Var("pair", dtype), tirx.const(0, dtype)
    two = tirx.SeqStmt([_round(loop, pair * 2 + i) for i in range(2)])
    pairs = tirx.For(pair, zero, tirx.const(rounds // 2, dtype), tirx.ForKind.SERIAL, two)
    if rounds % 2 == 0:
        return pairs
    return tirx.SeqStmt([pairs, _round(loop, tirx.const(rounds - 1, dtype))])


def _round(loop: tirx.For, number: ir.Expr) -> tirx.Stmt:
    """The body of the loop in one round, counted from 0."""

    def at(found: tirx.Var) -> ir.Expr:
        return loop.min + number if found.same_as(loop.loop_var) else found

    return tvm_ffi.structural_map(loop.body, (tirx.Var, at))
