"""Code generation and linking: a lowered module in, a shared library out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..linking.linker import find_linker
from ..target import Target
from .errors_through_tvm import keep_classes
from .kinds import prepare_compiler

if TYPE_CHECKING:
    import tvm


def without_alias() -> tvm.transform.Pass:
    """Relax's default pipeline, and then the promise that no two buffers overlap for all functions.

    LLVM code generation takes the promise of the whole module from the function declared last, and
    that is often Relax's own shape function, which makes none: then every sum of every kernel goes
    through memory at every step (vision attention: 164 ms a layer, 64 ms with the promise).
    """
    import tvm
    from tvm import relax, tirx

    @tvm.transform.module_pass(opt_level=0, name="WithoutAlias")
    def promise(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        for var, func in mod.functions_items():
            if isinstance(func, tirx.PrimFunc):
                mod[var] = func.with_attr("tirx.noalias", True)
        return mod

    return tvm.transform.Sequential([relax.get_pipeline("default"), promise])


def build_library(mod: tvm.IRModule, target: Target, path: str | Path) -> Path:
    """Generate machine code for every function of the module and link it to `path`."""
    linker = find_linker(target)  # before minutes of code generation, not after
    import tvm
    from tvm import relax

    keep_classes()
    prepare_compiler(target)
    executable = relax.build(mod, tvm.target.Target(target.tvm), relax_pipeline=without_alias())
    executable.export_library(str(path), fcompile=linker)
    return Path(path)
