"""TVM's build hook for the target kind `vulkan`: from device functions to a runtime module."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.target import Target

from ..narrowing import MOST_ELEMENTS, narrowed, oversized
from .emit import emit
from .kernel import Kernel
from .module_bytes import Shader, pack_module


def build_vulkan(mod: ir.IRModule, target: Target) -> Any:
    """Build a runtime module from the lowered device functions in `mod`."""
    data = pack_module(emit_module(mod, target))
    return tvm_ffi.get_global_func("ffi.Module.load_from_bytes.vulkan")(data)


def emit_module(mod: ir.IRModule, target: Target) -> list[Shader]:
    """Emit a shader for every function, sorted by name.

    Relax indices have 64 bits, for which many GPUs have no arithmetic or a slow one. Without 64-bit
    data in a function, indices are narrowed to 32 bits.
    """
    for name, func in _named(mod):
        _check_sizes(name, func)
    attributes = dict(target.attrs)
    mod = narrowed(mod, has_int64=bool(attributes.get("supports_int64")))
    return [emit(func, name, attributes) for name, func in _named(mod)]


def _named(mod: ir.IRModule) -> list[tuple[str, tirx.PrimFunc]]:
    named = {}
    for var, func in mod.functions.items():
        attributes = func.attrs or {}
        has_name = "global_symbol" in attributes
        named[str(attributes["global_symbol"]) if has_name else var.name_hint] = func
    return sorted(named.items())


def _check_sizes(name: str, func: tirx.PrimFunc) -> None:
    """Fail if a buffer of constant size has more elements than a 32-bit index can address."""
    if found := oversized(func):
        buffer, count = found
        Kernel(name, {}, {}, {}).fail(
            f"buffer {buffer} has {count} elements, but a 32-bit index can address only "
            f"{MOST_ELEMENTS}: split it"
        )
