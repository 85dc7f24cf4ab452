"""Code generation and linking: from a lowered module to a shared library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..linking.linker import find_linker
from ..target import Target
from .errors_through_tvm import keep_classes
from .export import export_library
from .kinds import prepare_compiler

if TYPE_CHECKING:
    import tvm


def without_alias() -> tvm.transform.Pass:
    """Relax's default pipeline, followed by a pass that marks all functions as `noalias`.

    TVM's LLVM code generator takes the attribute for the whole module from the function declared
    last. That is often Relax's shape function, which lacks it; every kernel then accumulates
    through memory (vision attention: 164 ms per layer, 64 ms with the attribute).
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


def pipeline(target: Target) -> tvm.transform.Pass:
    """`without_alias`, and on a CPU fewer calls of the virtual machine; on a GPU marks.

    A GPU does not wait for calls, and its memory should be freed as Relax plans it.
    """
    import tvm

    from .repeated_calls import WithoutRepeatedCalls
    from .repeated_kernels import MarkRepeated

    own = MarkRepeated() if target.gpu else WithoutRepeatedCalls()
    return tvm.transform.Sequential([without_alias(), own])


def build_library(mod: tvm.IRModule, target: Target, path: str | Path) -> Path:
    """Generate machine code for every function of the module and link it to `path`.

    Raises DeviceError if no linker is installed or linking fails.
    """
    linker = find_linker(target)  # fail before code generation, which takes minutes
    import tvm
    from tvm import relax

    keep_classes()
    prepare_compiler(target)
    with without_checks(target):
        executable = relax.build(
            mod, tvm.target.Target(target.tvm), relax_pipeline=pipeline(target)
        )
    export_library(executable, Path(path), linker)
    return Path(path)


def without_checks(target: Target) -> tvm.transform.PassContext:
    """A context in which kernels on a CPU do not check their arguments.

    Relax's functions check theirs, and give kernels what they planned. The checks of a kernel are
    most of its code: without them a library has 0.4 of the size and takes half of LLVM's time.
    """
    import tvm

    current = tvm.transform.PassContext.current()
    return tvm.transform.PassContext(
        opt_level=current.opt_level,
        required_pass=list(current.required_pass),
        disabled_pass=list(current.disabled_pass),
        instruments=list(current.instruments),
        config=dict(current.config) | {"tirx.disable_assert": target.gpu is None},
    )
