"""The share of a model's time that tuning records cover, reported by every `handglass compile`.

Nothing is measured here. The weight of a kernel is the least time of its calls in one answer
(lowering/workload.py), estimated from the counted operations and bytes and from nominal rates. All
kernels are estimated: mixing in measured times for kernels with a record would mix two scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import tirx

from handglass.runtime.bundle.probes import DOT4, DOT8, FMA, TILE_BF16, TILE_INT8
from handglass.runtime.bundle.report import Kernel
from handglass.targets.target import Target

from ..lowering.lengths import evaluate
from ..lowering.phases import KernelRow, Lowered, calls_of
from ..lowering.workload import Part
from .record import SECONDS, Device, Record

READ = 14e9
"""Bytes per second and core, measured on 2 cores of a Zen 3 (README.md), like RATES.

On other cores all rates are wrong by a similar factor, which cancels in the shares.
"""
RATES = {FMA: 100e9, DOT8: 170e9, DOT4: 275e9}
RATES_BITS = 256
"""Vector width in bits with which RATES were measured."""
TILE_RATES = {TILE_INT8: 6.4e12, TILE_BF16: 3.2e12}
"""Not measured: 2,048 and 1,024 operations per cycle (Intel's optimization manual) at the clock
frequency of the others, independent of the vector width.
"""


@dataclass(frozen=True)
class Covered:
    """A kernel that an answer calls, with its share of the estimated time."""

    function: str
    rule: str
    share: float
    choices: Mapping[str, int]
    record: Record | None
    """None for the rule's default choices."""


@dataclass(frozen=True)
class Coverage:
    """Kernels by share, largest first; `here` is the device that compiles."""

    key: str
    kernels: tuple[Covered, ...]
    here: Device | None = None

    @property
    def tuned(self) -> list[Covered]:
        return [kernel for kernel in self.kernels if kernel.record]

    @property
    def default(self) -> list[Covered]:
        return [kernel for kernel in self.kernels if not kernel.record]

    @property
    def share(self) -> float:
        """The share of the time that records cover."""
        return sum(kernel.share for kernel in self.tuned)

    @property
    def elsewhere(self) -> dict[str, int]:
        """Models of other devices -> number of kernels with records from them."""
        models: dict[str, int] = {}
        for kernel in self.tuned:
            model = kernel.record.device.model if kernel.record else ""
            if self.here is None or model != self.here.model:
                models[model] = models.get(model, 0) + 1
        return models

    @property
    def counted(self) -> int:
        """Number of kernels whose record was judged by instructions."""
        return sum(k.record is not None and k.record.measure != SECONDS for k in self.kernels)

    def line(self) -> str:
        """The summary that is printed after compilation."""
        rest = f"default schedules: {len(self.default)} kernels, {percent(1 - self.share)}"
        if not self.tuned:
            return f"records: none used on {self.key}; {rest}"
        of = f"{len(self.tuned)} of {len(self.kernels)} kernels"
        time = f"about {percent(self.share)} of an answer's time on {self.key}"
        return f"records: {of}, {time}{self._elsewhere()}{self._counted()}; {rest}"

    def _counted(self) -> str:
        return f" ({self.counted} judged by counted instructions)" if self.counted else ""

    def _elsewhere(self) -> str:
        models = self.elsewhere
        if not models:
            return ""
        return f" ({sum(models.values())} measured on another machine: {', '.join(models)})"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def coverage(
    lowered: Lowered,
    parts: Sequence[Part],
    target: Target,
    records: Mapping[str, Record],
    here: Device | None = None,
) -> Coverage:
    """The coverage of a lowered model; `records` by id."""
    calls = {part.function: calls_of(lowered.mod[part.function]) for part in parts}
    seconds = {
        row.function: sum(
            part.calls * calls[part.function][row.function] * least(lowered.mod, row, part, target)
            for part in parts
            if calls[part.function][row.function]
        )
        for row in lowered.kernels
    }
    total = sum(seconds.values())
    kernels = (
        Covered(
            row.function,
            row.rule,
            seconds[row.function] / total,
            row.choices,
            records[row.record] if row.record else None,
        )
        for row in lowered.kernels
        if seconds[row.function]
    )
    by_share = sorted(kernels, key=lambda kernel: -kernel.share)
    return Coverage(target.records_key, tuple(by_share), here)


def least(mod: tvm.IRModule, row: KernelRow, part: Part, target: Target) -> float:
    """Least seconds of one call on one core at nominal rates."""
    kernel = Kernel(row.function, row.rule, row.calls, row.patterns, row.work)
    sizes, itemsizes = arguments(mod[row.function], part.lengths)
    operations = (kernel.flops(sizes) or 0.0) / nominal_rate(kernel.limit, target)
    return max(kernel.bytes(sizes, itemsizes) / READ, operations)


def nominal_rate(kind: str, target: Target) -> float:
    """Operations per second and core for a kind of arithmetic."""
    if kind in TILE_RATES:
        return TILE_RATES[kind]
    return RATES[kind] * target.vector_bits / RATES_BITS


def arguments(
    func: tirx.PrimFunc, lengths: Mapping[str, int]
) -> tuple[tuple[tuple[int, ...] | int, ...], tuple[int, ...]]:
    """Shape and element size in bytes of each argument; a scalar argument has its value as shape.

    A length that is unknown in this part of the answer is 1: decoding calls some kernels that take
    any number of tokens.
    """
    sizes: list[tuple[int, ...] | int] = []
    itemsizes = []
    for param in func.params:
        if isinstance(param.ty, tirx.BufferType):
            sizes.append(tuple(evaluate(size, lengths) or 1 for size in param.shape))
            itemsizes.append(np.dtype(str(param.dtype)).itemsize)
        else:
            sizes.append(lengths.get(param.name, 1))
            itemsizes.append(8)
    return tuple(sizes), tuple(itemsizes)
