"""Buffers: arguments, shared and local arrays, and their loads and stores.

An argument has one variable per unit in which it is accessed, such as scalars and 128-bit vectors,
all at the same binding. Arguments with several variables are decorated Aliased, others Restrict.
"""

from __future__ import annotations

from tvm import ir, tirx

from .buffer import Memory
from .conversions import convert
from .held import assemble, candidates, lanes_of, memory_scalar, take_apart
from .kernel import Kernel
from .opcodes import MEMORY_NON_PRIVATE_POINTER, Decoration, Op, StorageClass
from .types import INT32, Type, Value, parse, pointer_id


def declare_argument(k: Kernel, name: str, element: Type, binding: int) -> Memory:
    return Memory(name, element, StorageClass.StorageBuffer, binding)


def declare_array(k: Kernel, buffer: tirx.Var, storage: int) -> Memory:
    """A shared or local array of constant extent."""
    element = parse(str(buffer.ty.dtype))
    memory = Memory(buffer.name, element, storage)
    if not all(isinstance(extent, ir.prim.IntImm) for extent in buffer.ty.shape):
        k.fail(f"the extent of {buffer.name} is not constant: {list(buffer.ty.shape)}")
    count = 1
    for extent in buffer.ty.shape:
        count *= int(extent)
    unit = element if len(element.parts) == 1 and not element.is_packed else _array_unit(element)
    k.claims.compute(unit)
    units = count * element.lanes // max(lanes_of(unit, element), 1)
    array = k.words.type(Op.TypeArray, k.id_of(unit), k.uint(units))
    pointer = pointer_id(k.words, storage, array)
    make = k.body.local if storage == StorageClass.Function else k.words.variable
    memory.views[unit] = make(pointer, storage)
    k.words.name(memory.views[unit], buffer.name)
    if storage == StorageClass.Workgroup:
        k.shared_bytes += units * unit.bytes
    return memory


def _array_unit(element: Type) -> Type:
    return next(iter(candidates(element)))


def decorate_arguments(k: Kernel, memories: list[Memory], no_alias: bool) -> None:
    """Add the decorations that depend on the whole kernel."""
    for memory in memories:
        if not memory.views:
            view(k, memory, memory_scalar(memory.element))
        unique = no_alias and len(memory.views) == 1
        aliasing = Decoration.Restrict if unique else Decoration.Aliased
        for variable in memory.views.values():
            k.words.decorate(variable, aliasing)
            if not memory.is_written:
                k.words.decorate(variable, Decoration.NonWritable)


def view(k: Kernel, memory: Memory, unit: Type) -> int:
    """The variable that accesses a buffer as an array of `unit`."""
    if unit not in memory.views:
        k.claims.store(unit.scalar, f"buffer {memory.name}")
        pointer = pointer_id(k.words, memory.storage, _block(k, unit))
        variable = k.words.variable(pointer, memory.storage)
        k.words.decorate(variable, Decoration.DescriptorSet, 0)
        k.words.decorate(variable, Decoration.Binding, memory.binding)
        k.words.name(variable, memory.name)
        memory.views[unit] = variable
    return memory.views[unit]


def _block(k: Kernel, unit: Type) -> int:
    """The structure type of a buffer: a runtime array."""
    if unit not in k.blocks:
        array = k.words.new_type(Op.TypeRuntimeArray, k.id_of(unit))
        k.blocks[unit] = k.words.new_type(Op.TypeStruct, array)
        k.words.decorate(array, Decoration.ArrayStride, unit.bytes)
        k.words.decorate(k.blocks[unit], Decoration.Block)
        k.words.decorate_member(k.blocks[unit], 0, Decoration.Offset, 0)
    return k.blocks[unit]


def memory_of(k: Kernel, buffer: tirx.Var) -> Memory:
    if buffer not in k.memory:
        k.fail(f"buffer {buffer} is not declared in the kernel")
    return k.memory[buffer]


def element_pointer(k: Kernel, memory: Memory, unit: Type, index: int) -> int:
    """A pointer to unit number `index`."""
    variable = view(k, memory, unit) if memory.is_argument else memory.views[unit]
    pointer = pointer_id(k.words, memory.storage, k.id_of(unit))
    indices = (k.constant(INT32, 0), index) if memory.is_argument else (index,)
    return k.body.pure(Op.AccessChain, pointer, variable, *indices)


def load(k: Kernel, load: ir.TensorLoad) -> Value:
    memory, type = memory_of(k, load.source), k.type_of(load)
    unit, indices = places(k, memory, type, load.indices)
    pointers = [element_pointer(k, memory, unit, index) for index in indices]
    units = [k.body.compute(Op.Load, k.id_of(unit), p, *access(k, memory)) for p in pointers]
    return assemble(k, type, unit, units)


def store(k: Kernel, store: tirx.BufferStore) -> None:
    memory, type = memory_of(k, store.buffer), k.type_of(store.value)
    memory.is_written = True
    value = k.expr(store.value)
    if type.is_integer and memory.element.is_integer:  # TVM narrows the value but not the buffer
        wanted = memory.element.scalar.of(type.lanes)
        type, value = wanted, convert(k, type, wanted, value)
    unit, indices = places(k, memory, type, store.indices)
    for index, one in zip(indices, take_apart(k, type, unit, value), strict=True):
        k.body.do(Op.Store, element_pointer(k, memory, unit, index), one, *access(k, memory))


def access(k: Kernel, memory: Memory) -> tuple[int, ...]:
    """Memory operands: under the Vulkan memory model, accesses are private by default."""
    return () if memory.storage == StorageClass.Function else access_words(k)


def access_words(k: Kernel) -> tuple[int, ...]:
    return (MEMORY_NON_PRIVATE_POINTER,) if k.words.has_vulkan_memory_model else ()


def places(k: Kernel, memory: Memory, type: Type, indices: list[ir.Expr]) -> tuple[Type, list[int]]:
    """The unit in which a value of `type` is accessed, and the indices of its units."""
    if len(indices) != 1:
        k.fail(f"buffer {memory.name} is indexed by {len(indices)} numbers after flattening")
    (index,) = indices
    if type.scalar != memory.element.scalar:
        k.fail(f"buffer {memory.name} of {memory.element} is used as {type}")
    first, stride = _ramp(index)
    if stride is None:
        return _scattered(k, memory, type, index)
    if stride != 1:
        return _strided(k, memory, type, first, stride)
    return _together(k, memory, type, first)


def _ramp(index: ir.Expr) -> tuple[ir.Expr, int | None]:
    """First index and constant stride; the stride is None for arbitrary indices."""
    if isinstance(index, ir.prim.Ramp):
        if isinstance(index.stride, ir.prim.IntImm):
            return index.base, int(index.stride)
        return index, None
    return (index, 1) if parse(str(index.ty.dtype)).lanes == 1 else (index, None)


def _together(k: Kernel, memory: Memory, type: Type, first: ir.Expr) -> tuple[Type, list[int]]:
    """Contiguous lanes, in the widest units in which they are aligned."""
    scalars = first * memory.element.lanes if memory.element.lanes > 1 else first
    choices = candidates(type) if memory.is_argument else iter(memory.views)
    for unit in choices:
        lanes = lanes_of(unit, type)
        if type.lanes % lanes == 0 and k.is_multiple(scalars, lanes):
            start = k.divide(scalars, lanes)
            count = type.lanes // lanes
            return unit, [k.scalar(start + i if i else start) for i in range(count)]
    return k.fail(
        f"{type} at {first} of {memory.name} is not aligned to its units {list(memory.views)}"
    )


def _strided(
    k: Kernel, memory: Memory, type: Type, first: ir.Expr, stride: int
) -> tuple[Type, list[int]]:
    unit = _single(k, memory)
    return unit, [k.scalar(first + i * stride if i else first) for i in range(type.lanes)]


def _scattered(k: Kernel, memory: Memory, type: Type, index: ir.Expr) -> tuple[Type, list[int]]:
    return _single(k, memory), k.lanes(k.type_of(index), k.expr(index))


def _single(k: Kernel, memory: Memory) -> Type:
    """The unit of one scalar."""
    scalar = memory_scalar(memory.element) if memory.is_argument else memory.element.scalar
    if memory.is_argument or scalar in memory.views:
        return scalar
    return k.fail(
        f"single lanes of {memory.name} are accessed, which is an array of {memory.element}"
    )
