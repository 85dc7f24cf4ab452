"""Workgroup and thread indices, built-in variables, and scalar arguments."""

from __future__ import annotations

from math import prod

import tvm_ffi
from tvm import ir, tirx
from tvm.ir import prim
from tvm.tirx import stmt as S

from ..reductions import LANES
from .conversions import convert
from .kernel import Kernel
from .opcodes import BuiltIn, Decoration, Op, StorageClass
from .types import INT32, UINT32, Type, parse, pointer_id

DIMENSIONS = "xyz"
POSITIONS = {"blockIdx": BuiltIn.WorkgroupId, "threadIdx": BuiltIn.LocalInvocationId}
SCALAR_BYTES = 8  # of every scalar argument, independent of its type


def launch(k: Kernel, node: tirx.IterVar, extent: ir.Expr) -> None:
    """Define the variable of a thread axis as a component of a built-in vector."""
    tag = str(node.thread_tag)
    kind, _, dimension = tag.partition(".")
    if kind not in POSITIONS or dimension not in DIMENSIONS:
        k.fail(f"thread axis {tag} is unknown")
    if kind == "threadIdx":
        if not isinstance(extent, prim.IntImm):
            k.fail(f"the extent of {tag} is not constant: {extent}")
        k.threads[tag] = int(extent)
    vector = builtin(k, POSITIONS[kind], UINT32.of(3))
    in_row = tag in k.row
    number = 0 if in_row else DIMENSIONS.index(dimension)
    part = k.body.pure(Op.CompositeExtract, k.id_of(UINT32), vector, number)
    if in_row:
        part = _place_in_row(k, tag, part)
    k.values[node.var] = convert(k, UINT32, k.type_of(node.var), (part,))


def lay_in_a_row(k: Kernel, func: tirx.PrimFunc) -> None:
    """Make workgroups one-dimensional in x if the kernel reduces across lanes.

    Only along x do all drivers number lanes like threads: Mesa 22.3's software driver starts a new
    subgroup with every y and z.
    """
    calls: list[ir.Call] = []
    tvm_ffi.structural_walk(func.body, (ir.Call, calls.append))
    names = [str(getattr(call.args[0], "value", "")) for call in calls if call.args]
    if any(name.startswith(LANES) for name in names):
        k.row = _extents(func)


def _extents(func: tirx.PrimFunc) -> dict[str, int]:
    found: list[S.AttrStmt] = []
    tvm_ffi.structural_walk(func.body, (S.AttrStmt, found.append))
    extents = {str(s.node.thread_tag): s.value for s in found if s.attr_key == "thread_extent"}
    return {tag: int(n) for tag, n in sorted(extents.items()) if tag.startswith("threadIdx")}


def _place_in_row(k: Kernel, tag: str, thread: int) -> int:
    stride = prod(extent for other, extent in k.row.items() if other < tag)
    if stride > 1:
        thread = k.body.pure(Op.UDiv, k.id_of(UINT32), thread, k.uint(stride))
    if tag == max(k.row):
        return thread
    return k.body.pure(Op.UMod, k.id_of(UINT32), thread, k.uint(k.row[tag]))


def builtin(k: Kernel, number: int, type: Type) -> int:
    """The value of a built-in variable."""
    if (number, type) not in k.builtins:
        pointer = pointer_id(k.words, StorageClass.Input, k.id_of(type))
        variable = k.words.variable(pointer, StorageClass.Input)
        k.words.decorate(variable, Decoration.BuiltIn, number)
        k.builtins[number, type] = variable
    return k.body.pure(Op.Load, k.id_of(type), k.builtins[number, type])


def local_size(k: Kernel) -> tuple[int, int, int]:
    """Threads of a workgroup per dimension, checked against the target's limit."""
    x, y, z = (k.threads.get(f"threadIdx.{dimension}", 1) for dimension in DIMENSIONS)
    most = k.claims.limit("max_threads_per_block", 256)
    if x * y * z > most:
        k.fail(
            f"a workgroup of {x} x {y} x {z} = {x * y * z} threads, "
            f"but max_threads_per_block of the target is {most}"
        )
    return (x * y * z, 1, 1) if k.row else (x, y, z)


def thread_count(k: Kernel) -> int:
    return prod(k.threads.values())


def declare_scalars(k: Kernel, scalars: list[tirx.Var], binding: int) -> bool:
    """Declare scalar arguments with a stride of 8 bytes, in upstream's layout.

    They are push constants, or a uniform buffer at `binding` if they exceed the target's limit; in
    this case returns True.
    """
    if not scalars:
        return False
    types = [parse(str(scalar.ty.dtype)) for scalar in scalars]
    size = SCALAR_BYTES * len(scalars)
    uniform = size > k.claims.limit("max_push_constants_size", 128)
    for scalar, type in zip(scalars, types, strict=True):
        if type.bits not in (32, 64) or type.kind == "bool":
            k.fail(f"scalar argument {scalar.name} is {type}, not of 32 or 64 bits")
        k.claims.compute(type)
    block = k.words.new_type(Op.TypeStruct, *(k.id_of(type) for type in types))
    storage = StorageClass.Uniform if uniform else StorageClass.PushConstant
    variable = k.words.variable(pointer_id(k.words, storage, block), storage)
    k.words.decorate(block, Decoration.Block)
    for i in range(len(types)):
        k.words.decorate_member(block, i, Decoration.Offset, SCALAR_BYTES * i)
    if uniform:
        k.words.decorate(variable, Decoration.DescriptorSet, 0)
        k.words.decorate(variable, Decoration.Binding, binding)
    k.words.name(variable, "scalars")
    for i, (scalar, type) in enumerate(zip(scalars, types, strict=True)):
        pointer = pointer_id(k.words, storage, k.id_of(type))
        place = k.body.pure(Op.AccessChain, pointer, variable, k.constant(INT32, i))
        k.values[scalar] = (k.body.pure(Op.Load, k.id_of(type), place),)
    return uniform
