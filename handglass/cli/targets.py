"""`handglass targets`: the table of devices, and what this machine can do for each."""

from __future__ import annotations

from typing import Any

from .options import Json
from .output import columns, print_json


def targets(json: Json = False) -> None:
    """List the devices to compile for."""
    from handglass.runtime.hardware import read_machine
    from handglass.targets import TARGETS

    flags = read_machine().flags
    rows = [describe(target, flags) for target in TARGETS.values()]
    if json:
        print_json({"targets": rows})
        return
    head = ("TARGET", "CPU", "VECTORS", "RUNS HERE", "WHAT IT IS")
    print(columns([head, *(text_row(row) for row in rows)]))


def describe(target: Any, flags: frozenset[str]) -> dict[str, Any]:
    missing = target.missing_on(flags)
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
        "runs_here": not missing,
        "missing_here": list(missing),
    }


def text_row(row: dict[str, Any]) -> tuple[str, ...]:
    runs = "yes" if row["runs_here"] else f"no, lacks {' '.join(row['missing_here'])}"
    cpu = " ".join([row["cpu"], *row["attributes"]])
    return row["name"], cpu, f"{row['vector_bits']} bit", runs, row["description"]
