"""Measures the limits of the device: the probes of every bundle, as separate kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from handglass.runtime.bundle.probes import (
    DOT4,
    DOT8,
    FEW_ROUNDS,
    FMA,
    GPU_TASKS,
    LONG_ENOUGH_S,
    READ,
)
from handglass.runtime.bundle.report import Kernel
from handglass.schedules.isa.integer_isa import find_integer_isa
from handglass.targets.target import Target

from ..lowering import gpu_probes
from ..lowering.amx_probes import tile_kernel, tile_products, tile_width
from ..lowering.cpu_probes import CHAINS, fma_kernel, read_kernel
from ..lowering.dot_probe import dot_kernel
from ..lowering.dot_probe import width as dot_width
from ..lowering.kernel_code import library_of
from ..lowering.probe_function import READ_WIDTH
from ..lowering.task_arguments import Arguments
from .device_runner import CandidateError, DeviceRunner

READ_SHAPE = (512, 1024, READ_WIDTH)  # 128 MiB of float32
GPU_READ_SHAPE = (8192, 64, READ_WIDTH)  # the same size in more tasks for a GPU's parallelism
ROUNDS = 1 << 20
SAMPLES, FEW_SAMPLES = 10, 3


@dataclass(frozen=True)
class Limits:
    """Rates per second by kind, in bytes or operations. Empty if they could not be measured."""

    rates: Mapping[str, float]

    def least(self, kernel: Kernel, arguments: Arguments) -> float | None:
        """Least seconds that memory and arithmetic allow; None if unknown."""
        rate = self.rates.get(kernel.limit)
        if rate is None:
            return None
        moving = kernel.bytes(arguments.sizes, arguments.itemsizes) / self.rates[READ]
        return max(moving, (kernel.flops(arguments.sizes) or 0.0) / rate)

    def fraction(self, kernel: Kernel, arguments: Arguments, seconds: float) -> float | None:
        """Fraction of the limit: least time divided by `seconds`; None if unknown."""
        least = self.least(kernel, arguments)
        return None if least is None else least / seconds


def measure_limits(runner: DeviceRunner, target: Target, threads: int) -> Limits:
    """Run the probes, which take a second or two on the device."""
    probes = _cpu_probes(target, threads) if target.gpu is None else _gpu_probes()
    try:
        return Limits({p.kind: _rate(runner, p, library_of(p.func, target)) for p in probes})
    except CandidateError:
        return Limits({})


@dataclass(frozen=True)
class _Probe:
    kind: str
    func: tirx.PrimFunc
    items: list[dict[str, Any]]
    work: float
    """Bytes or operations of one call, or of one round if there are rounds."""
    rounds: int | None = None
    """Initial number of rounds, doubled until they keep a GPU busy."""


def _rate(runner: DeviceRunner, probe: _Probe, library: bytes) -> float:
    """Work per second of a probe."""
    if probe.rounds is None:
        runner.prepare(Arguments(probe.items, 1, (), ()))
        return probe.work / min(runner.seconds(library, 1, SAMPLES))
    rounds, seconds = probe.rounds, 0.0
    least = _seconds_of(runner, probe, library, 0)
    while rounds < ROUNDS and seconds < min(20 * least, LONG_ENOUGH_S):
        rounds *= 2
        seconds = _seconds_of(runner, probe, library, rounds)
    return probe.work * rounds / seconds


def _seconds_of(runner: DeviceRunner, probe: _Probe, library: bytes, rounds: int) -> float:
    runner.prepare(Arguments([{"int": rounds}, *probe.items], 1, (), ()))
    return min(runner.seconds(library, 1, FEW_SAMPLES))


def _cpu_probes(target: Target, threads: int) -> Iterator[_Probe]:
    lanes, isa = target.vector_bits // 32, find_integer_isa(tvm.target.Target(target.tvm))
    yield _reading(read_kernel(lanes), READ_SHAPE)
    for kind, func, values, dtype in (
        (FMA, fma_kernel(lanes), CHAINS * lanes, "float32"),
        (DOT4, dot_kernel(isa, 4), dot_width(isa, 4), "int32"),
        (DOT8, dot_kernel(isa, isa.byte_bits), dot_width(isa, isa.byte_bits), "int32"),
    ):
        items = [{"int": ROUNDS}, _constant([threads, values], dtype, 0)]
        yield _Probe(kind, func, items, 2.0 * threads * values * ROUNDS)
    for kind, product in tile_products(isa).items():
        values = tile_width(product)
        items = [{"int": ROUNDS}, _constant([threads, values], product.sums, 0)]
        yield _Probe(kind, tile_kernel(product), items, 2.0 * threads * values * ROUNDS)


def _gpu_probes() -> Iterator[_Probe]:
    """The probes of a GPU; one instruction serves 4-bit and 8-bit integers."""
    yield _reading(gpu_probes.read_kernel(), GPU_READ_SHAPE)
    bytes_wide = gpu_probes.PRODUCTS * gpu_probes.WIDTH
    for kind, func, values, dtype in (
        (FMA, gpu_probes.fma_kernel(), gpu_probes.WIDTH, "float32"),
        (DOT4, gpu_probes.dot_kernel(), bytes_wide, "int32"),
        (DOT8, gpu_probes.dot_kernel(), bytes_wide, "int32"),
    ):
        items = [_constant([GPU_TASKS, values], dtype, 0)]
        yield _Probe(kind, func, items, 2.0 * GPU_TASKS * values, FEW_ROUNDS)


def _reading(func: tirx.PrimFunc, shape: tuple[int, int, int]) -> _Probe:
    tasks, steps, width = shape
    items = [_constant(sizes, "float32", 1) for sizes in ([*shape], [tasks, width])]
    return _Probe(READ, func, items, 4.0 * tasks * steps * width)


def _constant(shape: list[int], dtype: str, value: int) -> dict[str, Any]:
    return {"shape": shape, "dtype": dtype, "fill": {"kind": "constant", "value": value}}
