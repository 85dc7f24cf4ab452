"""`handglass targets`: lists the targets and what this machine can do for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import PurePath
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json
from .output import columns, print_json

if TYPE_CHECKING:
    from handglass.runtime.system.hardware import Machine
    from handglass.targets import Target
    from handglass.targets.evidence import Entry

INSTALL = "'-' under LINKED BY: pip install 'handglass[cross]', or install a cross compiler"

Kernels = Annotated[
    str | None,
    typer.Option(
        "--kernels",
        metavar="TARGET",
        help="Show the matmul kernels of TARGET by quantization scheme, not the list of targets.",
    ),
]


def targets(kernels: Kernels = None, json: Json = False) -> None:
    """List the devices to compile for."""
    if kernels is not None:
        from .kernel_table import show_kernels

        show_kernels(kernels, json)
        return
    from handglass.runtime.system.hardware import read_machine
    from handglass.targets import known_targets

    machine = read_machine()
    rows = [describe(target, machine) for target in known_targets().values()]
    if json:
        print_json({"targets": rows})
        return
    head = ("TARGET", "CPU", "MEMORY", "CORES", "RUNS HERE", "EMULATED AS", "LINKED BY")
    lines = columns([head, *map(text_row, rows)]).splitlines()
    print(lines[0])
    for line, row in zip(lines[1:], rows, strict=True):
        print(f"{line}\n    {row['description']}\n    {row['evidence']}")
        print("".join(evidence_lines(known_targets()[row["name"]].evidence.entries)), end="")
    if not all(row["linked_by"] for row in rows):
        print(INSTALL)


def describe(target: Target, machine: Machine) -> dict[str, Any]:
    from handglass.targets.abilities import abilities

    local, evidence = abilities(target, machine), target.evidence
    return {
        "name": target.name,
        "description": target.description,
        "triple": target.triple,
        "cpu": target.cpu,
        "attributes": list(target.mattr),
        "features": list(target.features),
        "vector_bits": target.vector_bits,
        "cores": target.cores,
        "native_dtype": target.native_dtype,
        "memory_limit": target.memory_limit,
        "evidence": str(evidence),
        "evidence_entries": [asdict(entry) for entry in evidence.entries],
        "emulator_cpu": target.emulator_cpu,
        "gpu": target.gpu.abilities if target.gpu else None,
        "runs_here": local.runs,
        "missing_here": None if local.missing is None else list(local.missing),
        "emulated_by": list(local.emulator),
        "linked_by": list(local.linker),
        "advice": local.advice,
    }


def evidence_lines(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the entries newest first, wrapped to the width of the table."""
    for entry in sorted(entries, key=lambda entry: entry.date, reverse=True):
        yield fill(str(entry), 100, initial_indent="    - ", subsequent_indent="      ") + "\n"


def text_row(row: dict[str, Any]) -> tuple[str, ...]:
    memory = f"{row['memory_limit'] / 1e9:.0f} GB" if row["memory_limit"] else "-"
    emulator = row["emulator_cpu"] if row["emulated_by"] else "-"
    return row["name"], row["cpu"], memory, str(row["cores"]), runs(row), emulator, linker(row)


def runs(row: dict[str, Any]) -> str:
    missing = row["missing_here"]
    if missing is None:
        return "no"
    if missing:
        return f"lacks {missing[0]}"
    return "doctor?" if row["gpu"] else "yes"


def linker(row: dict[str, Any]) -> str:
    command = row["linked_by"]
    return "zig" if "ziglang" in command else PurePath(command[0]).name if command else "-"
