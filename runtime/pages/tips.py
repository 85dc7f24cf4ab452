"""What is said about one kernel, under the pointer and in tables."""

from __future__ import annotations

from collections.abc import Iterator

from ..bundle.probes import DOT4, DOT8, FMA, READ, TILE_BF16, TILE_INT8
from .axes import bytes_text, digits, ms_text, share_text, si
from .content import Content, Kernel

LIMITS = {
    READ: "reading",
    FMA: "float32",
    DOT4: "4-bit integers",
    DOT8: "8-bit integers",
    TILE_INT8: "int8 tiles",
    TILE_BF16: "bfloat16 tiles",
}
"""Probe -> what it measures, in the order of tables."""


def unit_of(probe: str) -> str:
    return "B/s" if probe == READ else "OP/s"


def intensity(kernel: Kernel) -> float:
    """Operations per byte."""
    return (kernel.operations or 0.0) / (kernel.bytes or 1.0)


def achieved(kernel: Kernel) -> float:
    """Operations per second."""
    return (kernel.operations or 0.0) / kernel.ms * 1e3


def bandwidth(kernel: Kernel) -> float:
    """Bytes per second."""
    return (kernel.bytes or 0.0) / kernel.ms * 1e3


def tip_lines(kernel: Kernel, phase: str) -> Iterator[str]:
    """Name, rule and phase, time, bytes, operations, limit: a line each."""
    yield kernel.kernel
    yield f"{kernel.rule or 'no rule'}, {phase}"
    calls = f"{kernel.calls:.0f} call" + ("" if round(kernel.calls) == 1 else "s")
    yield f"{ms_text(kernel.ms)} in {calls}, {share_text(kernel.share)} of the step"
    if kernel.bytes and kernel.ms:
        yield f"{bytes_text(kernel.bytes)}, {si(bandwidth(kernel), 'B/s')}"
    if kernel.operations and kernel.ms:
        yield f"{si(kernel.operations)} operations, {si(achieved(kernel), 'OP/s')}"
    if kernel.operations and kernel.bytes:
        yield f"{digits(intensity(kernel))} operations per byte"
    if kernel.limit_fraction is not None:
        yield f"{share_text(kernel.limit_fraction)} of its limit: {bound_text(kernel.limit)}"


def bound_text(limit: str | None) -> str:
    """What bounds a kernel, in words."""
    if limit is None:
        return "not measured"
    return "memory" if limit == READ else LIMITS.get(limit, limit)


def conditions_of(side: Content) -> str:
    """What, where and when, in one line."""
    measured = side.measured
    scheme = ", ".join(f"{part} {name}" for part, name in side.bundle.scheme.items())
    what = f"{bytes_text(side.memory.weights)} of weights, {scheme}"
    if measured is None:
        return f"{what}; not measured"
    where = f"{measured.gpu or measured.device}, {measured.threads} threads"
    return f"{what}; {where}; {side.date}, revision {side.revision}"
