"""Stores that bypass the caches: a whole line goes to memory, and nobody reads the old one first.

No operator of TVM has LLVM's mark "nontemporal", so the store is a function of LLVM's language that
the function which calls it imports; LLVM compiles it to the instruction of the target, on x86-64
and on ARM. Such stores are not ordered with others: a thread that made some must fence before
another may read them.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Expr, StringImm
from tvm.script import tirx as T

LANES, LINE = 16, 64
"""float32 numbers of a store, and their bytes."""
STORE, FENCE = "handglass_store_streaming", "handglass_fence"
_IMPORT = "pragma_import_llvm"
_FUNCTIONS = f"""
define void @{STORE}(ptr %place, <{LANES} x float> %value) {{
  store <{LANES} x float> %value, ptr %place, align {LINE}, !nontemporal !0
  ret void
}}
define void @{FENCE}() {{
  fence seq_cst
  ret void
}}
!0 = !{{i32 1}}
"""
_EXTERN = T.call_extern("void", FENCE).op


def store_streaming(address: Expr, value: Expr) -> tirx.Stmt:
    """Store 16 float32 at an address that is a multiple of 64 bytes; it must be in `importing`."""
    return tirx.Evaluate(T.call_extern("void", STORE, address, value))


def fence() -> tirx.Stmt:
    """Make the streaming stores of this thread visible to others before its next store."""
    return importing(tirx.Evaluate(T.call_extern("void", FENCE)))


def importing(statement: tirx.Stmt) -> tirx.Stmt:
    """The statement, with the functions that it calls."""
    return tirx.AttrStmt(tirx.const(0, "int32"), _IMPORT, StringImm(_FUNCTIONS), statement)


def streams(statement: tirx.Stmt) -> bool:
    """Whether anything in the statement is stored past the caches."""
    found: list[tvm.ir.Call] = []

    def look(call: tvm.ir.Call) -> None:
        name = call.args[0] if call.op.same_as(_EXTERN) else None
        if isinstance(name, StringImm) and name.value == STORE:
            found.append(call)

    tvm_ffi.structural_walk(statement, (tvm.ir.Call, look))
    return bool(found)
