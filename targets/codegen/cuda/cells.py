"""Numbers that a kernel reads from device memory, so that a graph is launched again unchanged.

The position of a token is a number on the host, as is what the host computes from it, and kernels
have them as parameters. In a graph each change of a parameter is a call of the driver for each
kernel. So a kernel has one more parameter, the address of a few cells in device memory: where
there are cells, these numbers come from them. There are none, and the address is null, where the
kernel is started by itself. runtime/devices/cuda/cells.h keeps the cells of graphs.

This holds for kernels that are repeated (../repeated_kernels.py), because a number from a cell
takes a register, and for integers on which the launch does not depend: where one changes the number
of workgroups, its kernel in the graph has to be changed anyway.
"""

from __future__ import annotations

from collections.abc import Mapping

import tvm_ffi
from tvm import ir, tirx
from tvm.tirx import stmt as S

from ..repeated_kernels import is_repeated

NAME, READ = "cells", "handglass_cell"
"""The parameter, and the function of prelude.py that reads a cell."""
INTEGERS = ("int32", "uint32", "int64", "uint64")

Cells = Mapping[str, tuple[int, ...]]
"""Kernel -> which of its arguments are in cells, in their order."""


def with_cells(mod: ir.IRModule) -> tuple[ir.IRModule, Cells]:
    """Device code that reads numbers from cells, and which arguments these are."""
    functions, cells = dict(mod.functions.items()), {}
    for var, func in functions.items():
        if is_repeated(func) and (numbers := _free_numbers(func)):
            functions[var] = _reading(func, numbers)
            cells[str(func.attrs["global_symbol"])] = numbers
    return ir.IRModule(functions, attrs=mod.attrs), cells


def _free_numbers(func: tirx.PrimFunc) -> tuple[int, ...]:
    """The parameters that are integers on which no extent of the launch depends."""
    fixed: list[ir.Var] = []

    def extent(stmt: S.AttrStmt) -> None:
        if stmt.attr_key == "thread_extent":
            tvm_ffi.structural_walk(stmt.value, (ir.Var, fixed.append))

    tvm_ffi.structural_walk(func.body, (S.AttrStmt, extent))
    return tuple(
        i
        for i, param in enumerate(func.params)
        if str(getattr(param.ty, "dtype", "")) in INTEGERS
        and not any(param.same_as(var) for var in fixed)
    )


def _reading(func: tirx.PrimFunc, numbers: tuple[int, ...]) -> tirx.PrimFunc:
    """The function with the parameter for cells, which binds these numbers first."""
    cells = tirx.Var(NAME, ir.PointerType(ir.PrimType("int64"), "global"))
    params, reads = list(func.params), []
    for cell, i in enumerate(numbers):
        number, dtype = params[i], str(params[i].ty.dtype)
        params[i] = tirx.Var(number.name, dtype)
        value = tirx.call_pure_extern(dtype, READ, cells, tirx.const(cell, "int32"), params[i])
        reads.append(S.Bind(number, value))
    body = S.SeqStmt([*reads, func.body])
    return tirx.PrimFunc([*params, cells], body, func.ret_type, func.attrs)
