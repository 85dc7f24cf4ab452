"""Code generation and linking: a lowered module in, a shared library out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from handglass.errors import DeviceError

from .target import Target

if TYPE_CHECKING:
    import tvm


def find_linker(target: Target) -> str:
    """The first C compiler of the target's list that is installed."""
    for name in target.linkers:
        if found := shutil.which(name):
            return found
    raise DeviceError(
        f"no C compiler to link the library for '{target.name}' with: looked for "
        f"{', '.join(target.linkers)}; install one, for instance with 'apt-get install gcc'"
    )


def build_library(mod: tvm.IRModule, target: Target, path: str | Path) -> Path:
    """Generate machine code for every function of the module and link it to `path`."""
    linker = find_linker(target)  # before minutes of code generation, not after
    import tvm
    from tvm import relax

    executable = relax.build(mod, tvm.target.Target(target.tvm))
    executable.export_library(str(path), cc=linker)
    return Path(path)
