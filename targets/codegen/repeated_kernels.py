"""Marks the kernels of functions that a device may start as one, such as `decode`.

Such a function is called once per token, with the same kernels and, as its tensors have constant
sizes, mostly the same arguments. A code generator may pass numbers that differ, such as the
position, in another way (cuda/cells.py). Kernels that no such function calls stay as they are.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import ir, relax, tirx

from .repeated_calls import is_static

REPEATED = "handglass.repeated"
"""The attribute of a TIR function, and of the kernels that are split from it."""
LAUNCH = "tirx.call_ffi_kernel"


@tvm.transform.module_pass(opt_level=0, name="MarkRepeated")
class MarkRepeated:
    """A pass for the result of Relax's pipeline."""

    def transform_module(self, mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        for func in list(mod.functions.values()):
            if isinstance(func, relax.Function) and is_static(func):
                for var in _called(func):
                    mod[var] = mod[var].with_attr(REPEATED, True)
        return mod


def _called(func: relax.Function) -> list[ir.GlobalVar]:
    found: list[relax.Call] = []
    tvm_ffi.structural_walk(func.body, (relax.Call, found.append))
    return [call.op for call in found if isinstance(call.op, ir.GlobalVar)]


def mark_kernels(mod: tvm.IRModule) -> tvm.IRModule:
    """Host and device code in which the kernels that a marked function launches are marked, too."""
    repeated = filter(is_repeated, mod.functions.values())
    names = {name for func in repeated for name in _launched(func)}
    marked = {
        var: func.with_attr(REPEATED, True) if var.name_hint in names else func
        for var, func in mod.functions.items()
    }
    return ir.IRModule(marked, attrs=mod.attrs) if names else mod


def is_repeated(func: ir.BaseFunc) -> bool:
    return bool((func.attrs or {}).get(REPEATED))


def _launched(func: tirx.PrimFunc) -> list[str]:
    found: list[ir.Call] = []
    tvm_ffi.structural_walk(func.body, (ir.Call, found.append))
    return [str(call.args[0].value) for call in found if getattr(call.op, "name", "") == LAUNCH]
