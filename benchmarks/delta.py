"""Times the gated delta rule position by position and in chunks, at the size of MiniCPM-V 4.6.

    python benchmarks/delta.py [--cores 2] [--positions 64 256 1024] [--samples 30]

The kernels run in turns, so other work on the machine affects all of them. Times are per position
of one layer. GFLOP/s count what the recurrence needs, 6 key_dim value_dim per head and position;
chunks compute up to a third more. The peak is that of the probe `probe_fma`, measured in turns too.
With one core, times are those of its thread, without the time in which other programs ran on it.
HANDGLASS_CPU_LEVEL selects the instruction set.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

import numpy as np

HEADS, KEY_DIM, VALUE_DIM = 16, 128, 128
ROUNDS = 200_000
"""Of the probe: about 10 ms."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--positions", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--samples", type=int, default=30)
    options = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(options.cores)  # read when TVM is imported
    compare(options.cores, options.positions, options.samples)


def compare(cores: int, lengths: list[int], samples: int) -> None:
    """Print a line per length and form."""
    peak, kernels = compiled(cores)
    clock = time.thread_time if cores == 1 else time.perf_counter
    for s in lengths:
        arguments = tensors(s)
        calls = {name: partial(kernel, *arguments) for name, kernel in kernels.items()}
        times = in_turns({"peak": peak} | calls, samples, clock)
        rate = 2 * ROUNDS * probe_width() * cores / times.pop("peak")[0] / 1e9
        print(f"{s} positions, {cores} cores, peak {rate:.0f} GFLOP/s")
        for name, seconds in times.items():
            print(f"  {name:24}{figures(seconds, s)}")


def figures(seconds: list[float], s: int) -> str:
    """Minimum, median and 90th percentile in microseconds per position, and the best GFLOP/s."""
    least, median, p90 = np.percentile(seconds, [0, 50, 90]) / s * 1e6
    rate = 6 * HEADS * KEY_DIM * VALUE_DIM / least / 1e3
    return f"min {least:6.2f}  median {median:6.2f}  p90 {p90:6.2f} us  {rate:5.0f} GFLOP/s"


def in_turns(
    calls: dict[str, Callable], samples: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each sample, in ascending order."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(samples + 1):
        for name, call in calls.items():
            start = clock()
            call()
            times[name].append(clock() - start)
    return {name: sorted(each[1:]) for name, each in times.items()}  # the first call warms up


def compiled(cores: int) -> tuple[Callable, dict[str, Callable]]:
    """The probe, and the kernel for each choice."""
    import tvm
    from tvm import tirx

    from handglass.compiler.lowering.cpu_probes import fma_kernel
    from handglass.compiler.ops.delta_rule import Heads, delta_writer
    from handglass.schedules.cpu.recurrence import CHUNKS, RULE, measured_chunk
    from handglass.schedules.rule import replay
    from handglass.schedules.select import find_units
    from handglass.targets import find_target

    target = tvm.target.Target(find_target("host").tvm)

    def build(func: tirx.PrimFunc) -> Callable:
        mod = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
        return tvm.compile(mod, target)["main"]

    func = delta_writer(Heads(HEADS, HEADS, KEY_DIM, VALUE_DIM))
    default = measured_chunk(find_units(target))
    kernels = {
        f"chunk {chunk}{' (default)' * (chunk == default)}": build(
            replay(func, RULE, target, {"chunk": chunk}).mod["main"]
        )
        for chunk in CHUNKS
    }
    probe = build(fma_kernel(find_target("host").vector_bits // 32))
    sums = tvm.runtime.tensor(np.zeros((cores, probe_width()), np.float32))
    return lambda: probe(ROUNDS, sums), kernels


def probe_width() -> int:
    """Floats in all chains of the probe."""
    from handglass.compiler.lowering.cpu_probes import CHAINS
    from handglass.targets import find_target

    return CHAINS * find_target("host").vector_bits // 32


def tensors(s: int) -> list:
    """Random state, unit, mixed, gates and result."""
    import tvm

    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape, np.float32)  # noqa: E731
    unit = normal(s, 2 * HEADS, KEY_DIM)
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    out = HEADS * VALUE_DIM
    gates = 1 / (1 + np.exp(-normal(s, 2 * HEADS) - 1))
    state, mixed = normal(HEADS, KEY_DIM, VALUE_DIM), normal(s, 2 * HEADS * KEY_DIM + out)
    arrays = [state, unit.reshape(s, -1), mixed, gates, np.zeros((s, out), np.float32)]
    return [tvm.runtime.tensor(x) for x in arrays]


if __name__ == "__main__":
    main()
