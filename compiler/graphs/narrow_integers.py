"""Whole numbers of 64 bits as numbers of 32: many GPUs have no others.

ONNX counts and indexes in int64. Places in tensors fit 32 bits; constants beyond, such as "to the
end", are moved to the nearest number that does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax

from .graph import array_of, name_of

WIDE, NARROW = "int64", "int32"


def narrowed(function: relax.Function) -> relax.Function:
    """The function with int32 in place of int64, in its inputs and outputs as well."""
    mutator = _Narrowing(tvm.IRModule({"main": function}))
    changed = mutator.visit_expr(function)
    return relax.Function(changed.params, changed.body, attrs=function.attrs)


@relax.expr_functor.mutator
class _Narrowing(relax.PyExprMutator):
    def visit_var_def_(self, var: relax.Var) -> relax.Var:
        if not isinstance(var.ty, relax.TensorType) or str(var.ty.dtype) != WIDE:
            return var
        return relax.Var(var.name, relax.TensorType(var.ty.shape, NARROW))

    def visit_generic_const_(self, constant: Any) -> Any:
        if not isinstance(constant.ty, relax.TensorType) or str(constant.ty.dtype) != WIDE:
            return constant
        limits = np.iinfo(NARROW)
        values = np.clip(array_of(constant), limits.min, limits.max)
        return relax.const(values.astype(NARROW), NARROW)

    def visit_call_(self, call: relax.Call) -> Any:
        new = super().visit_call_(call)
        if name_of(new) == "astype" and str(new.attrs.dtype) == WIDE:
            return relax.op.astype(new.args[0], NARROW)
        return new
