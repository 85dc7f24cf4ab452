"""What the device can do at most, measured there: the probes of every bundle, as kernels alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from handglass.runtime.limits import DOT4, DOT8, FMA, READ
from handglass.runtime.report import Kernel
from handglass.schedules.dot import find_dot
from handglass.targets.target import Target

from ..cpu_probes import CHAINS, fma_kernel, read_kernel
from ..dot_probe import dot_kernel
from ..dot_probe import width as dot_width
from ..probe_function import READ_WIDTH
from .arguments import Arguments
from .code import library_of
from .stand import CandidateError, Stand

READ_SHAPE = (512, 1024, READ_WIDTH)  # 128 MiB of float32
ROUNDS = 1 << 20
SAMPLES = 10


@dataclass(frozen=True)
class Limits:
    """Rates per second by kind: bytes, or operations. Empty where they could not be measured."""

    rates: Mapping[str, float]

    def least(self, kernel: Kernel, arguments: Arguments) -> float | None:
        """Seconds that memory and arithmetic allow at least; None where unknown."""
        if not self.rates:
            return None
        moving = kernel.bytes(arguments.sizes, arguments.itemsizes) / self.rates[READ]
        flops = kernel.flops(arguments.sizes) or 0.0
        return max(moving, flops / self.rates[kernel.limit])

    def fraction(self, kernel: Kernel, arguments: Arguments, seconds: float) -> float | None:
        """Of the limit: least time over `seconds`."""
        least = self.least(kernel, arguments)
        return None if least is None else least / seconds


def measure_limits(stand: Stand, target: Target, threads: int) -> Limits:
    """A second or two on the device."""
    rates = {}
    for kind, func, items, work in _probes(target, threads):
        stand.prepare(Arguments(items, 1, (), ()))
        try:
            seconds = stand.seconds(library_of(func, target), 1, SAMPLES)
        except CandidateError:
            return Limits({})
        rates[kind] = work / min(seconds)
    return Limits(rates)


def _probes(
    target: Target, threads: int
) -> list[tuple[str, tirx.PrimFunc, list[dict[str, Any]], float]]:
    """(kind, kernel, arguments, bytes or operations of one call)."""
    lanes, dot = target.vector_bits // 32, find_dot(tvm.target.Target(target.tvm))
    tasks, steps, width = READ_SHAPE
    ones: dict[str, Any] = {"kind": "constant", "value": 1}
    data: dict[str, Any] = {"shape": list(READ_SHAPE), "dtype": "float32", "fill": ones}
    sums: dict[str, Any] = {"shape": [tasks, width], "dtype": "float32", "fill": ones}
    found = [(READ, read_kernel(lanes), [data, sums], 4.0 * tasks * steps * width)]
    for kind, func, values, dtype in (
        (FMA, fma_kernel(lanes), CHAINS * lanes, "float32"),
        (DOT4, dot_kernel(dot, 4), dot_width(dot, 4), "int32"),
        (DOT8, dot_kernel(dot, dot.byte_bits), dot_width(dot, dot.byte_bits), "int32"),
    ):
        out = {"shape": [threads, values], "dtype": dtype, "fill": {"kind": "constant", "value": 0}}
        found.append((kind, func, [{"int": ROUNDS}, out], 2.0 * threads * values * ROUNDS))
    return found
