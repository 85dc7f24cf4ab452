"""Emits one shader from one lowered TIR function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import ir, tirx

from ..serialized import DLPACK_CODES
from . import arithmetic, conversions, cooperative, dot_product, subgroups, vectors, workgroup
from .calls import calls
from .capabilities import SHARED_MEMORY
from .cooperative import needs_matrices
from .kernel import Emit, Kernel
from .memory import declare_argument, decorate_arguments, load
from .module_bytes import BUFFER, FLAG_UNIFORM_BUFFER, Shader
from .opcodes import FUNCTION_CONTROL_NONE, Op
from .statements import STATEMENTS
from .subgroups import say_subgroups
from .threads import declare_scalars, lay_in_a_row, local_size
from .types import parse
from .words import instruction

EXTERNALS = {
    **dot_product.EXTERNALS,
    **cooperative.EXTERNALS,
    **subgroups.EXTERNALS,
    **workgroup.EXTERNALS,
}
EXPRESSIONS: dict[type, Emit] = {
    **arithmetic.EXPRESSIONS,
    **conversions.EXPRESSIONS,
    **vectors.EXPRESSIONS,
    ir.TensorLoad: load,
    ir.Call: calls(EXTERNALS),
}


def emit(func: tirx.PrimFunc, name: str, attributes: Mapping[str, Any]) -> Shader:
    """Emit a shader named `name` from `func`; `attributes` are the target's.

    Raises InputError with the kernel's name for unsupported code and capabilities not claimed.
    """
    k = Kernel(name, attributes, EXPRESSIONS, STATEMENTS)
    buffers = [p for p in func.params if is_buffer(p)]
    scalars = [p for p in func.params if not is_buffer(p)]
    for binding, parameter in enumerate(buffers):
        element = parse(str(parameter.ty.element_type.dtype))
        label = parameter.name.removesuffix("_ptr")
        k.memory[parameter] = declare_argument(k, label, element, binding)
    memories = [k.memory[parameter] for parameter in buffers]
    needs_matrices(k, func)
    lay_in_a_row(k, func)
    uniform = declare_scalars(k, scalars, len(buffers))
    k.stmt(func.body)
    decorate_arguments(k, memories, "tirx.noalias" in func.attrs)
    k.claims.finish()
    _check_shared_memory(k)
    say_subgroups(k)
    tags = tuple(str(tag) for tag in func.attrs["tirx.kernel_launch_params"])
    flag = FLAG_UNIFORM_BUFFER if uniform else 0
    return Shader(name, _arguments(func), tags, flag, tuple(_finish(k)))


def is_buffer(parameter: tirx.Var) -> bool:
    return isinstance(parameter.ty, ir.PointerType)


def _arguments(func: tirx.PrimFunc) -> tuple[tuple[int, int, int], ...]:
    types = [None if is_buffer(p) else parse(str(p.ty.dtype)) for p in func.params]
    return tuple(BUFFER if t is None else (DLPACK_CODES[t.kind], t.bits, 1) for t in types)


def _check_shared_memory(k: Kernel) -> None:
    most = k.claims.limit("max_shared_memory_per_block", SHARED_MEMORY)
    if k.shared_bytes > most:
        k.fail(
            f"{k.shared_bytes} bytes of shared memory, "
            f"but max_shared_memory_per_block of the target is {most}"
        )


def _finish(k: Kernel) -> list[int]:
    words = k.words
    void = words.type(Op.TypeVoid)
    signature = words.type(Op.TypeFunction, void)
    main = words.id()
    code = [
        *instruction(Op.Function, void, main, FUNCTION_CONTROL_NONE, signature),
        *k.body.finish(),
        *instruction(Op.FunctionEnd),
    ]
    return words.finish(k.name, main, local_size(k), code)
