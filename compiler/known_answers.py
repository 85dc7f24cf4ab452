"""Makes the known answers of a bundle (runtime/known_answers.py): cases, results and a library.

Two kinds of cases: small kernels of which numpy says what they come to (known_kernels.py), and the
kernels of the bundle itself, the smallest of each rule and pattern, of which the same function says
so when it runs unscheduled on the CPU of the machine that compiles.
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

from handglass.errors import InputError
from handglass.runtime.known_answers import (
    ANSWERS,
    CASES,
    CHECKS_LIBRARY,
    Case,
    arrays_of,
    cases_text,
)
from handglass.runtime.manifest import LIBRARY
from handglass.runtime.report import Kernel
from handglass.runtime.tensors import TensorWriter
from handglass.targets.target import Target

from .known_kernels import Known, known_kernels
from .lower import KernelRow
from .tuning.arguments import items_of
from .tuning.code import export

MOST_BYTES = 16 << 20
"""Of the arguments of a kernel: a trial is to take no time that anybody notices."""
MOST_FLOPS = 200e6
"""Unscheduled loops on one core have to come to the answer, too."""
EXACT_DB, ROUNDED_DB = 60.0, 30.0
"""Sums in another order leave 120 dB in float32; what is rounded to 16 or 8 bits leaves less."""
LENGTHS = {"s": 33, "pos": 7, "n": 20}
"""No multiple of any tile."""
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
    """Of the small kernels; a CPU has none."""

    def write(self, folder: Path) -> tuple[str, ...]:
        """Names of the files that are now in `folder`."""
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
    fused: tvm.IRModule | None = None,
    kernels: Sequence[KernelRow] = (),
    patch_size: int = 1,
) -> KnownAnswers:
    """For code of `target`; `kernels` are those of the library and `fused` what they are made of,
    before it was scheduled."""
    small = [] if target.tvm["kind"] == "llvm" else list(known_kernels(target.tvm))
    answered = [_answer_small(n, known) for n, known in enumerate(small)]
    if fused is not None:
        answered += _answer_own(fused, kernels, LENGTHS | {"strip": LENGTHS["n"] * patch_size})
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
    fused: tvm.IRModule, kernels: Sequence[KernelRow], lengths: Mapping[str, int]
) -> list[_Answered]:
    """The smallest kernel of each rule and pattern that is small enough."""
    groups: dict[tuple[str, tuple[str, ...]], list[tuple[float, KernelRow, list[Any]]]] = {}
    for row in kernels:
        if sized := _sized(fused, row, lengths):
            groups.setdefault((row.rule, row.patterns), []).append(sized)
    chosen = [min(group, key=lambda sized: sized[0]) for group in groups.values()]
    found = (_answer_kernel(fused[row.function], row, items) for _, row, items in chosen)
    return [one for one in found if one.results]


def _sized(
    fused: tvm.IRModule, row: KernelRow, lengths: Mapping[str, int]
) -> tuple[float, KernelRow, list[Any]] | None:
    """(bytes, row, items), or nothing where it is too large or has a length that is not known."""
    if _is_for_threads(fused[row.function]):
        return None
    try:
        items = items_of(fused[row.function], row.function, row.patterns, lengths)
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


def _answer_kernel(func: tirx.PrimFunc, row: KernelRow, items: list[Any]) -> _Answered:
    """What the function does to its arguments, on this CPU."""
    case = Case(row.function, row.rule, LIBRARY, row.function, tuple(items), SEED, {}, None)
    before, after = arrays_of(case), arrays_of(case)
    _on_this_cpu(func)(*[a if isinstance(a, int) else tvm_ffi.from_dlpack(a) for a in after])
    results, answers = {}, {}
    for n, (old, new) in enumerate(zip(before, after, strict=True)):
        if isinstance(new, np.ndarray) and not np.array_equal(old, new):
            answers[str(n)] = name = f"{row.function}.{n}"
            results[name] = new
    rounded = any(array.dtype not in (np.float32, np.int32) for array in results.values())
    floor = ROUNDED_DB if rounded else EXACT_DB
    return _Answered(
        Case(row.function, row.rule, LIBRARY, row.function, tuple(items), SEED, answers, floor),
        results if all(_is_finite(array) for array in results.values()) else {},
    )


def _is_for_threads(func: tirx.PrimFunc) -> bool:
    """Whether its loops are written for a GPU's threads: then no CPU can run it as it is."""
    loops: list[tirx.For] = []
    tvm_ffi.structural_walk(func.body, (tirx.For, loops.append))
    return any(loop.thread_binding is not None for loop in loops)


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _on_this_cpu(func: tirx.PrimFunc) -> Any:
    named = func.with_attr("global_symbol", "answer")
    mod = tvm.IRModule({"answer": named})
    return tvm.compile(mod, tvm.target.Target({"kind": "llvm"}))["answer"]


def _library(small: Sequence[Known], target: Target) -> bytes:
    functions = {
        f"known_{n}": known.func.with_attr("global_symbol", f"known_{n}")
        for n, known in enumerate(small)
    }
    return export(tvm.IRModule(functions), target)
