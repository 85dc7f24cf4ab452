"""The hash of a function's loops that identifies it in a tuning record, stable across processes.

TVM's structural hash covers shapes, dtypes, loops, annotations and constants, but not the names of
variables, buffers and blocks. Its 64 bits do not protect against forged records, and need not: a
record for a wrong function can only select choices that the rule offers (docs/records.md).
"""

from __future__ import annotations

import hashlib
import re

import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule, renew_defs

from handglass.schedules.rule import blocks, pattern_of


def task_hash(func: tirx.PrimFunc, rule_name: str) -> str:
    """64 hexadecimal digits for an unscheduled function and the rule that schedules it.

    Attributes of the function are excluded. Definitions are renewed first, because annotations of a
    copy may refer to variables of the original.
    """
    bare = renew_defs(func)
    for name in list(bare.attrs.keys() if bare.attrs else ()):
        bare = bare.without_attr(name)
    loops = tvm_ffi.structural_hash(bare, map_free_vars=True) % (1 << 64)
    text = f"{rule_name}\n{_arguments(func)}\n{loops:016x}"
    return hashlib.sha256(text.encode()).hexdigest()


def signature(func: tirx.PrimFunc, name: str) -> str:
    """A readable signature: the function's name without numbers, its patterns and its arguments.

    "fused_matmul_add (dot4, rows, scaled): (s, 256) int8, (s, 8) float32, ..."
    """
    sch = Schedule(func)
    patterns = sorted({pattern_of(sch, block) for block in blocks(sch)} - {""})
    shown = f" ({', '.join(patterns)})" if patterns else ""
    return f"{re.sub('[0-9]+(?=_|$)', '', name)}{shown}: {_arguments(func, named=True)}"


def _arguments(func: tirx.PrimFunc, named: bool = False) -> str:
    """Shapes and dtypes; symbolic lengths by name if `named`, else as a question mark."""
    return ", ".join(_argument(param, named) for param in func.params)


def _argument(param: tirx.Var, named: bool) -> str:
    if not isinstance(param.ty, tirx.BufferType):
        return str(param.ty.dtype)
    sizes = [_size(size, named) for size in param.shape]
    comma = "," if len(sizes) == 1 else ""
    return f"({', '.join(sizes)}{comma}) {param.dtype}"


def _size(size: tirx.Expr, named: bool) -> str:
    if isinstance(size, tirx.IntImm):
        return str(int(size))
    return str(size) if named else "?"
