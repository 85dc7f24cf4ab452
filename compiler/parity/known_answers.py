"""Generate the known answers of a bundle (runtime/execution/known_answers.py).

There are two kinds of cases. For small kernels, numpy computes the expected result
(known_kernels.py). For the bundle's own kernels (the smallest of each variant of a rule), the same
function computes it, unscheduled on the CPU of the compiling machine. A function that is written
for GPU threads is replaced by its counterpart in the same model built for a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock

from handglass.errors import InputError
from handglass.runtime.bundle.manifest import LIBRARY
from handglass.runtime.bundle.report import Kernel
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.execution.known_answers import (
    ANSWERS,
    CASES,
    CHECKS_LIBRARY,
    Case,
    arrays_of,
    cases_text,
)
from handglass.schedules import CPU_RULES
from handglass.schedules.rule import ROUNDED, schedule_function
from handglass.targets.target import Target

from ..lowering.kernel_code import export
from ..lowering.phases import KernelRow
from ..lowering.task_arguments import items_of
from ..lowering.work import nodes_of
from .known_kernels import Known, known_kernels

ANY_CPU = {"kind": "llvm"}
MOST_BYTES = 16 << 20
"""Limit of a kernel's argument bytes: a self-test must not take noticeable time."""
MOST_FLOPS = 200e6
"""Limit of a kernel's operations: unscheduled loops on one core compute the answer."""
EXACT_DB, ROUNDED_DB = 60.0, 30.0
"""Lowest SNR: another order of additions leaves 120 dB in float32, 16 or 8 bits leave less."""
LENGTHS = {"s": 33, "pos": 7, "n": 20, "m": 5, "r": 3}
"""Lengths that are not multiples of any tile."""
SEED = 20


@dataclass(frozen=True)
class _Answered:
    case: Case
    results: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class KnownAnswers:
    cases: tuple[Case, ...]
    results: Mapping[str, np.ndarray]
    library: bytes | None
    """The library of the small kernels; None for a CPU, which has none."""

    def write(self, folder: Path) -> tuple[str, ...]:
        """Write the files of the known answers to `folder` and return their names."""
        (folder / CASES).write_bytes(cases_text(self.cases))
        specs = [(name, array.shape, array.dtype.name) for name, array in self.results.items()]
        with TensorWriter(folder / ANSWERS, specs) as writer:
            for name, array in self.results.items():
                writer.write(name, array)
        if self.library is None:
            return CASES, ANSWERS
        (folder / CHECKS_LIBRARY).write_bytes(self.library)
        return CASES, ANSWERS, CHECKS_LIBRARY


def known_answers(
    target: Target,
    kernels: Sequence[KernelRow] = (),
    fused: tvm.IRModule | None = None,
    cpu_model: tvm.IRModule | None = None,
    patch_size: int = 1,
) -> KnownAnswers:
    """The known answers for code of `target`.

    `kernels` are the kernels of the library, `fused` is their module before scheduling, and
    `cpu_model` is the same model fused for a CPU.
    """
    small = (
        []
        if target.gpu is None
        else list(known_kernels(tvm.target.Target(target.tvm), target.kind))
    )
    answered = [_answer_small(n, known) for n, known in enumerate(small)]
    if fused is not None:
        lengths = LENGTHS | {"strip": LENGTHS["n"] * patch_size}
        answered += _answer_own(fused, kernels, lengths, _functions(cpu_model) if cpu_model else {})
    results = {name: array for one in answered for name, array in one.results.items()}
    library = _library(small, target) if small else None
    return KnownAnswers(tuple(one.case for one in answered), results, library)


def _answer_small(number: int, known: Known) -> _Answered:
    function = f"known_{number}"
    last = str(len(known.items) - 1)
    case = Case(
        known.name,
        known.family,
        CHECKS_LIBRARY,
        function,
        tuple(known.items),
        SEED,
        {last: function},
        known.floor_db,
    )
    return _Answered(case, {function: known.answer(*arrays_of(case)[:-1])})


def _answer_own(
    fused: tvm.IRModule,
    kernels: Sequence[KernelRow],
    lengths: Mapping[str, int],
    cpu_functions: Mapping[str, tirx.PrimFunc],
) -> list[_Answered]:
    """The smallest kernel of each rule, pattern and set of choice names that is small enough.

    The names distinguish variants of a rule: one row has other choices than many rows, for example.
    """
    groups: dict[tuple[Any, ...], list[tuple[float, KernelRow, list[Any]]]] = {}
    references = {
        name: _cpu_reference(func, cpu_functions.get(name))
        for name, func in _functions(fused).items()
    }
    for row in kernels:
        func = references[row.function]
        if func is not None and (sized := _sized(func, row, lengths)):
            variant = row.rule, row.patterns, frozenset(row.choices)
            groups.setdefault(variant, []).append(sized)
    chosen = [min(group, key=lambda sized: sized[0]) for group in groups.values()]
    rounding = {name for name, func in _functions(fused).items() if _may_round(func)}
    answered = (
        _answer_kernel(references[row.function], row, items, row.function in rounding)
        for _, row, items in chosen
    )
    return [one for one in answered if one.results]


def _may_round(func: tirx.PrimFunc) -> bool:
    """Whether a kernel may round the operands of the function to 16 bits."""
    return any(ROUNDED in block.annotations for block in nodes_of(func.body, SBlock))


def _functions(mod: tvm.IRModule) -> dict[str, tirx.PrimFunc]:
    functions = mod.functions_items()
    return {var.name_hint: func for var, func in functions if isinstance(func, tirx.PrimFunc)}


def _cpu_reference(func: tirx.PrimFunc, on_cpu: tirx.PrimFunc | None) -> tirx.PrimFunc | None:
    """The function that computes the answer on a CPU: `on_cpu` if `func` is for GPU threads."""
    if not _is_for_threads(func):
        return func
    if on_cpu is None or _arguments(on_cpu) != _arguments(func):
        return None
    # Scheduled, because a sum over zero panels is initialized only by the schedule.
    found = schedule_function(on_cpu, CPU_RULES, tvm.target.Target(ANY_CPU))
    return found[0].mod["main"] if found else None


def _is_for_threads(func: tirx.PrimFunc) -> bool:
    return any(loop.kind == tirx.ForKind.THREAD_BINDING for loop in nodes_of(func.body, tirx.For))


def _arguments(func: tirx.PrimFunc) -> list[str]:
    return [f"{param.ty} {getattr(param, 'shape', '')}" for param in func.params]


def _sized(
    func: tirx.PrimFunc, row: KernelRow, lengths: Mapping[str, int]
) -> tuple[float, KernelRow, list[Any]] | None:
    """(bytes, row, items), or None if the kernel is too large or has an unknown length."""
    try:
        items = items_of(func, row.function, row.patterns, lengths)
    except (InputError, ValueError):
        return None
    sizes = tuple(i["int"] if "int" in i else tuple(i["shape"]) for i in items)
    nbytes = sum(
        int(np.prod(i["shape"], dtype=np.int64)) * np.dtype(i["dtype"]).itemsize
        for i in items
        if "shape" in i
    )
    work = Kernel(row.function, row.rule, row.calls, row.patterns, row.work)
    is_small = nbytes <= MOST_BYTES and (work.flops(sizes) or 0.0) <= MOST_FLOPS
    return (nbytes, row, items) if is_small else None


def _answer_kernel(
    func: tirx.PrimFunc, row: KernelRow, items: list[Any], may_round: bool
) -> _Answered:
    """Run the function on this CPU; the results are the arguments that it changes."""
    case = Case(row.function, row.rule, LIBRARY, row.function, tuple(items), SEED, {}, None)
    before, after = arrays_of(case), arrays_of(case)
    _on_this_cpu(func)(*[a if isinstance(a, int) else tvm_ffi.from_dlpack(a) for a in after])
    results, answers = {}, {}
    for n, (old, new) in enumerate(zip(before, after, strict=True)):
        if isinstance(new, np.ndarray) and not np.array_equal(old, new):
            answers[str(n)] = name = f"{row.function}.{n}"
            results[name] = new
    rounded = may_round or any(a.dtype not in (np.float32, np.int32) for a in results.values())
    floor = ROUNDED_DB if rounded else EXACT_DB
    return _Answered(
        Case(row.function, row.rule, LIBRARY, row.function, tuple(items), SEED, answers, floor),
        results if all(_is_finite(array) for array in results.values()) else {},
    )


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


DP4A = """
define weak i32 @__dp4a(i32 %a, i32 %b, i32 %c) alwaysinline {
  %bytes.a = bitcast i32 %a to <4 x i8>
  %bytes.b = bitcast i32 %b to <4 x i8>
  %wide.a = sext <4 x i8> %bytes.a to <4 x i32>
  %wide.b = sext <4 x i8> %bytes.b to <4 x i32>
  %all = mul <4 x i32> %wide.a, %wide.b
  %p0 = extractelement <4 x i32> %all, i32 0
  %p1 = extractelement <4 x i32> %all, i32 1
  %p2 = extractelement <4 x i32> %all, i32 2
  %p3 = extractelement <4 x i32> %all, i32 3
  %s0 = add i32 %p0, %p1
  %s1 = add i32 %p2, %p3
  %s2 = add i32 %s0, %s1
  %s3 = add i32 %s2, %c
  ret i32 %s3
}
"""
"""The intrinsic that GPU functions call, defined for the CPU that computes the answers."""


def _on_this_cpu(func: tirx.PrimFunc) -> Any:
    zero = tirx.const(0, "int32")
    body = tirx.AttrStmt(zero, "pragma_import_llvm", tvm.ir.StringImm(DP4A), func.body)
    named = func.with_body(body).with_attr("global_symbol", "answer")
    mod = tvm.IRModule({"answer": named})
    return tvm.compile(mod, tvm.target.Target(ANY_CPU))["answer"]


def _library(small: Sequence[Known], target: Target) -> bytes:
    functions = {
        f"known_{n}": known.func.with_attr("global_symbol", f"known_{n}")
        for n, known in enumerate(small)
    }
    return export(tvm.IRModule(functions), target)
