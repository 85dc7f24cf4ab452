"""The parts of a report that come from measurements: kernels, and the comparison with numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handglass.errors import InputError

from ..system.json_dataclass import optional, parse_dataclass
from ..system.json_text import parse_json
from .content import (
    MAX_FILE,
    MAX_ITEMS,
    MAX_TEXT,
    Arrival,
    Kernel,
    Layer,
    Measured,
    Parity,
    Part,
    PartKernel,
    Phase,
    Spread,
    Stage,
    beyond,
)

KERNEL_KEYS = (
    "kernel",
    "rule",
    "calls",
    "share",
    "median_us",
    "bytes",
    "operations",
    "limit",
    "limit_fraction",
)


@dataclass(frozen=True)
class Verified:
    """The output of `handglass verify --json`."""

    ok: bool
    first_fault: str | None
    lossy: tuple[str, ...]
    stages: tuple[Stage, ...]
    layers: tuple[Layer, ...] = optional(tuple)
    arrivals: tuple[Arrival, ...] = optional(tuple)


def measured(
    about: Mapping[str, Any],
    limits: Mapping[str, Mapping[str, float | None]],
    phases: Sequence[Mapping[str, Any]],
    interrupted: bool = False,
) -> Measured:
    """From what `handglass bench --kernels` found; `limits`: the spread of each probe, per second.

    `about` has the device, gpu, threads and versions of a benchmark.
    """
    return Measured(
        device=about["device"],
        gpu=about["gpu"],
        threads=about["threads"],
        versions=dict(about["versions"]),
        limits={probe: Spread(**spread) for probe, spread in limits.items() if spread["median"]},
        phases=tuple(map(_phase, phases)),
        interrupted=interrupted,
    )


def workspace(phases: Sequence[Mapping[str, Any]]) -> int | None:
    """Bytes of the step that allocates most; None if none was measured."""
    found = [phase["workspace"] for phase in phases if phase["observed_ms"]["median"] is not None]
    return max(found, default=None)


def parse_verified(data: bytes, where: str) -> Parity:
    """Read the output of `handglass verify --json`. Raises InputError."""
    value = parse_json(data, where, MAX_FILE)
    for problem in beyond(value):
        raise InputError(f"{where}: {problem}")
    return parity(parse_dataclass(Verified, value, where))


def parity(found: Verified) -> Parity:
    return Parity(found.ok, found.stages, found.layers, found.arrivals)


def _phase(phase: Mapping[str, Any]) -> Phase:
    return Phase(
        phase=phase["phase"],
        step_ms=Spread(**phase["step_ms"]),
        observed_ms=Spread(**phase["observed_ms"]),
        kernels=tuple(map(_kernel, phase["kernels"][:MAX_ITEMS])),
        parts=tuple(map(_part, phase["parts"][:MAX_ITEMS])),
    )


def _kernel(row: Mapping[str, Any]) -> Kernel:
    found = {key: row[key] for key in KERNEL_KEYS}
    names = {key: found[key][:MAX_TEXT] for key in ("kernel", "rule")}
    return Kernel(ms=row["total_ms"], **{**found, **names})


def _part(part: Mapping[str, Any]) -> Part:
    kernels = tuple(
        PartKernel(kernel["kernel"][:MAX_TEXT], kernel["calls"], kernel["ms"])
        for kernel in part["kernels"][:MAX_ITEMS]
    )
    return Part(part["blocks"], part["ms"], tuple(part["block_ms"][:MAX_ITEMS]), kernels)
