"""Lowering from Relax operators to scheduled loops, in named phases.

`--dump-ir` writes the module after each phase to a numbered text file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tvm
import tvm_ffi
from tvm import relax
from tvm.relax import transform as X

from handglass.schedules import Scheduled, apply_rules
from handglass.schedules.isa.aligned_stack import align_stack
from handglass.schedules.isa.amx_configuration import configure_tiles
from handglass.schedules.rule import Replays
from handglass.targets.target import Target

from .work import Work, work_of_all

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class KernelRow:
    """One kernel of the library, the rule that scheduled it and its number of call sites."""

    function: str
    rule: str
    calls: int
    patterns: tuple[str, ...] = ()
    work: Work | None = None
    """Operations and memory accesses of one call, for `report.json`; None if not countable."""
    choices: Mapping[str, int] = field(default_factory=dict)
    """The rule's tunable choices and the selected values."""
    record: str | None = None
    """Id of the tuning record that the choices come from; None for the rule's defaults."""


@dataclass(frozen=True)
class Lowered:
    """A module ready for code generation, with a row for each kernel."""

    mod: tvm.IRModule
    kernels: tuple[KernelRow, ...]


def lower(
    mod: tvm.IRModule,
    target: Target,
    dump_ir: Path | None = None,
    progress: Progress | None = None,
    replays: Replays = lambda func, rule: None,
) -> Lowered:
    """Run all phases for `target`.

    `mod` is the result of a model's `export`; `replays` returns the tuned choices of a function
    (records/apply.py).
    """
    report: list[Scheduled] = []
    work: dict[str, Work] = {}
    tvm_target = tvm.target.Target(target.tvm)

    def schedule(mod: tvm.IRModule) -> tvm.IRModule:
        work.update(work_of_all(mod))  # counted before scheduling rewrites the loops
        scheduled, rows = apply_rules(mod, target.rules, tvm_target, replays)
        report.extend(rows)
        return scheduled

    phases: list[tuple[str, Callable[[tvm.IRModule], tvm.IRModule]]] = [
        ("import", lambda mod: mod),
        ("legalize", X.LegalizeOps()),
        ("fuse", _fuse()),
        ("schedule", schedule),
        ("tiles", configure_tiles()),
        ("stack", align_stack(tvm_target)),
    ]
    with tvm_target:
        for number, (name, phase) in enumerate(phases):
            if progress:
                progress(name, number, len(phases))
            mod = phase(mod)
            _dump(mod, dump_ir, number, name)
    return Lowered(mod, _kernels(mod, report, work))


def fuse(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """Legalize and fuse `mod`, as `lower` does before scheduling: the functions to be tuned."""
    with tvm.target.Target(target.tvm):
        return _fuse()(X.LegalizeOps()(mod))


def _fuse() -> tvm.ir.transform.Pass:
    """Epilogue fusion into matmuls, fusion of elementwise chains, and dead code elimination."""
    return tvm.transform.Sequential(
        [
            X.AnnotateTIROpPattern(),
            X.FoldConstant(),
            X.FuseOps(),
            X.FuseTIR(),
            X.DeadCodeElimination(),
        ]
    )


def _dump(mod: tvm.IRModule, folder: Path | None, number: int, name: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}-{name}.py").write_text(mod.script(), encoding="utf-8")


def _kernels(
    mod: tvm.IRModule, report: list[Scheduled], work: dict[str, Work]
) -> tuple[KernelRow, ...]:
    calls = count_calls(mod)

    def row(r: Scheduled) -> KernelRow:
        count, done = calls[r.function], work.get(r.function)
        return KernelRow(r.function, r.rule, count, r.patterns, done, r.choices, r.source or None)

    rows = map(row, report)
    return tuple(sorted(rows, key=lambda row: (row.rule, -row.calls, row.function)))


def count_calls(mod: tvm.IRModule) -> Counter[str]:
    """Number of call sites of each kernel, over all exported functions."""
    functions = (func for _, func in mod.functions_items() if isinstance(func, relax.Function))
    return sum(map(calls_of, functions), Counter())


def calls_of(func: relax.Function) -> Counter[str]:
    """Number of call sites of each kernel in one function."""
    counts: Counter[str] = Counter()

    def visit(call: relax.Call) -> None:
        callee = call.args[0] if call.args else None
        if isinstance(callee, tvm.ir.GlobalVar):
            counts[callee.name_hint] += 1

    tvm_ffi.structural_walk(func, (relax.Call, visit))
    return counts
