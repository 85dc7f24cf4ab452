"""Emulates AMX tile instructions in C, on machines without them.

`emulated` rewrites a lowered module: each tile instruction becomes a call to its counterpart in
amx_emulator.c, which also counts operations that would raise a fault. All other code is what a
machine with AMX runs.
"""

from __future__ import annotations

import atexit
import ctypes
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import tvm
import tvm_ffi
from tvm import tirx
from tvm.script import tirx as T

from handglass.schedules.isa.amx_instructions import CONFIGURE, LOAD, PRODUCTS, RELEASE, STORE, ZERO
from handglass.targets import find_target
from handglass.targets.linking.linker import find_linker

INSTRUCTIONS = (
    *(CONFIGURE, RELEASE, LOAD, STORE, ZERO),
    *(product.instruction for product in PRODUCTS.values()),
)
EMULATED = "handglass_emulated_"
"""Replaces `llvm.x86.` in the name of the C function that emulates an instruction."""
_INTRINSIC = tirx.call_llvm_intrin("void", RELEASE).op


class Emulator:
    """The loaded emulator; its counters start at `reset`."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
        self.library.handglass_tile_first_error.restype = ctypes.c_char_p

    def reset(self) -> None:
        self.library.handglass_tile_reset()

    @property
    def errors(self) -> tuple[int, str]:
        first = self.library.handglass_tile_first_error()
        return self.library.handglass_tile_errors(), first.decode()

    @property
    def counts(self) -> dict[str, int]:
        kinds = ("configured", "released", "loaded", "stored", "multiplied")
        return {name: self.library.handglass_tile_count(i) for i, name in enumerate(kinds)}


@cache
def open_emulator() -> Emulator:
    """Compile and load it once per process, with its symbols visible to all code.

    A second copy would have tile registers of its own.
    """
    folder = TemporaryDirectory(prefix="handglass-tiles-")
    atexit.register(folder.cleanup)
    path = Path(folder.name, "emulator.so")
    source = Path(__file__).with_name("amx_emulator.c")
    flags = ["-x", "c", "-O2", "-shared", "-fPIC"]
    compiler = find_linker(find_target("host")).command
    subprocess.run([*compiler, *flags, str(source), "-o", str(path)], check=True)
    return Emulator(path)


def emulated(mod: tvm.IRModule) -> tvm.IRModule:
    """Replace the tile instructions of `mod` by calls to the emulator."""
    names = {int(T.llvm_lookup_intrinsic_id(name)): name for name in INSTRUCTIONS}

    def replaced(call: tvm.ir.Call) -> tvm.ir.Expr:
        name = names.get(int(call.args[0])) if call.op.same_as(_INTRINSIC) else None
        if name is None:
            return call
        return T.call_extern("void", name.replace("llvm.x86.", EMULATED), *call.args[1:])

    mod = mod.clone()
    for var, func in mod.functions_items():
        if isinstance(func, tirx.PrimFunc):
            mod[var] = tvm_ffi.structural_map(func, (tvm.ir.Call, replaced))
    return mod
