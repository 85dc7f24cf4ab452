"""Leaves out repeated calls of the virtual machine in functions whose tensors have constant sizes.

Relax plans few blocks of memory for all intermediate tensors, but makes each tensor anew and frees
it after its last use. A decode step has hundreds of short kernels, and this is two thirds of all
calls. A tensor at the same place of the same block is the same in every layer, so it can be made
once. Nothing is freed before the function returns, as the blocks are planned for all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import tvm
import tvm_ffi
from tvm import relax, tirx

ALLOCATE, FREE = "relax.vm.alloc_tensor", "relax.vm.kill_object"
NUMBER = "vm.builtin.make_prim_value"


@tvm.transform.module_pass(opt_level=0, name="WithoutRepeatedCalls")
class WithoutRepeatedCalls:
    """A pass for the result of Relax's pipeline."""

    def transform_module(self, mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        for var, func in mod.functions_items():
            if isinstance(func, relax.Function) and is_static(func):
                mod[var] = without_repeated_calls(func)
        return mod


def without_repeated_calls(func: relax.Function) -> relax.Function:
    """The function with each number, element of a tuple and planned tensor made once."""
    made = _Made()
    bindings = [binding for old in _bindings(func) for binding in made.kept(old)]
    result = made.renamed(func.body.body)
    used = {var for binding in bindings for var in _variables(binding.value)} | {result}
    needed = [b for b in bindings if b.var in used or not isinstance(b.value, relax.Tuple)]
    body = relax.SeqExpr([relax.BindingBlock(needed)], result)
    return relax.Function(func.params, body, func.ret_ty, func.is_pure, func.attrs)


@dataclass
class _Made:
    """The values that exist so far."""

    names: dict[relax.Var, relax.Expr] = field(default_factory=dict)
    """Variables that are gone -> those with the same value."""
    values: dict[int, list[relax.VarBinding]] = field(default_factory=dict)
    """By the hash of the value."""

    def kept(self, old: relax.VarBinding) -> Iterator[relax.VarBinding]:
        """The binding that takes the place of `old`, if one is needed."""
        value = self.renamed(old.value)
        if _calls(value, FREE):
            return
        before = self._find(value) if _is_repeatable(value) else None
        if before is not None:
            self.names[old.var] = before
            return
        binding = relax.VarBinding(old.var, value)
        self.values.setdefault(tvm_ffi.structural_hash(value), []).append(binding)
        yield binding

    def renamed(self, value: relax.Expr) -> relax.Expr:
        return tvm_ffi.structural_map(value, (relax.Var, lambda var: self.names.get(var, var)))

    def _find(self, value: relax.Expr) -> relax.Var | None:
        """The variable with this value."""
        known = self.values.get(tvm_ffi.structural_hash(value), [])
        return next((b.var for b in known if tvm_ffi.structural_equal(b.value, value)), None)


def _bindings(func: relax.Function) -> Iterator[relax.VarBinding]:
    for block in func.body.blocks:
        yield from block.bindings


def _variables(value: relax.Expr) -> list[relax.Var]:
    found: list[relax.Var] = []
    tvm_ffi.structural_walk(value, (relax.Var, found.append))
    return found


def is_static(func: relax.Function) -> bool:
    """Whether all intermediate tensors have constant sizes, and the body has no branches."""
    bindings = list(_bindings(func))
    shapes = [b.value.args[2] for b in bindings if _calls(b.value, ALLOCATE)]
    return all(map(_is_straight, bindings)) and all(map(_is_constant, shapes))


def _is_straight(binding: relax.Binding) -> bool:
    return isinstance(binding, relax.VarBinding) and not isinstance(binding.value, relax.If)


def _is_constant(shape: relax.Expr) -> bool:
    return isinstance(shape, relax.ShapeExpr) and all(
        isinstance(size, tirx.IntImm) for size in shape.values
    )


def _is_repeatable(value: relax.Expr) -> bool:
    """Whether a second evaluation has the same result as the first."""
    return isinstance(value, relax.TupleGetItem) or _calls(value, ALLOCATE) or _calls(value, NUMBER)


def _calls(value: relax.Expr, name: str) -> bool:
    """Whether the value is a call of this operator or packed function."""
    if not isinstance(value, relax.Call):
        return False
    callee = value.op
    own = callee.global_symbol if isinstance(callee, relax.ExternFunc) else None
    return name == (callee.name if isinstance(callee, tvm.ir.Op) else own)
