"""Measures decoding on a machine that also does something else.

    python benchmarks/busy.py BUNDLE [--rounds N] [--seconds S] [--baseline CHECKOUT BUNDLE]

In every round each situation runs once, in turn: all threads or one thread, alone or beside a
process that keeps one core busy, and four processes at once. The busy process may run on any core,
or is bound to the last one. Workers are separate processes that sleep until their turn, which
begins when the machine is idle: TVM's pool spins for seconds after a loop if its threads share a
core. Prints min / median / p90 in tok/s, the ratios that the issue of a busy machine is about, and
how long a worker took to end after SIGTERM and after its last token, beside the busy process.
With --baseline the same is measured with another checkout and a bundle that it compiled.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from handglass.runtime.measure.steps import spread
from handglass.runtime.system.hardware import read_machine
from handglass.runtime.system.machine import thread_count, usable_cpus

WORKER = Path(__file__).with_name("busy_worker.py")
CHECKOUT = Path(__file__).parents[1]
SPIN = """
import os, sys
if len(sys.argv) > 1:
    os.sched_setaffinity(0, {int(sys.argv[1])})
while True:
    pass
"""
PROCESSES = 4
SETTLE_S = 0.3
BUSY_SHARE, MOST_SETTLE_S = 0.03, 20.0


def cpu_times() -> tuple[int, int]:
    """Idle and total time of all CPUs so far, in ticks of /proc/stat."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def settle() -> None:
    """Wait until the machine is idle."""
    end = time.monotonic() + MOST_SETTLE_S
    while time.monotonic() < end:
        idle, total = cpu_times()
        time.sleep(SETTLE_S)
        later = cpu_times()
        if 1 - (later[0] - idle) / (later[1] - total) < BUSY_SHARE:
            return
    print("the machine is not idle: the figures are not comparable", file=sys.stderr, flush=True)


class Worker:
    """A process with a loaded model that decodes for some seconds on request."""

    def __init__(self, checkout: Path, bundle: Path, threads: int) -> None:
        command = [sys.executable, str(WORKER), str(bundle.resolve()), str(threads)]
        environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.answer()

    def ask(self, seconds: float) -> None:
        assert self.process.stdin is not None
        print(seconds, file=self.process.stdin, flush=True)

    def answer(self) -> float:
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def rate(self, seconds: float) -> float:
        self.ask(seconds)
        return self.answer()

    def seconds_to_end(self, terminate: bool) -> float:
        """After SIGTERM while it decodes, or else after its last token."""
        self.ask(60.0 if terminate else 0.2)
        if terminate:
            time.sleep(0.5)
        else:
            self.answer()
        start = time.monotonic()
        if terminate:
            self.process.send_signal(signal.SIGTERM)
        else:
            assert self.process.stdin is not None
            self.process.stdin.close()
        self.process.wait()
        return time.monotonic() - start

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def busy_process(*cpu: int) -> Iterator[None]:
    child = subprocess.Popen([sys.executable, "-c", SPIN, *map(str, cpu)])
    time.sleep(SETTLE_S)
    try:
        yield
    finally:
        child.kill()
        child.wait()


class Situations:
    """The situations of one checkout, by name."""

    def __init__(self, checkout: Path, bundle: Path, threads: int, seconds: float) -> None:
        self._start = lambda count: Worker(checkout, bundle, count)
        self._threads, self._seconds = threads, seconds
        self._many, self._one = self._start(threads), self._start(1)
        self._four = [self._start(threads) for _ in range(PROCESSES)]

    def all(self) -> dict[str, Callable[[], float]]:
        last = max(usable_cpus())
        return {
            "alone, all threads": lambda: self._many.rate(self._seconds),
            "alone, one thread": lambda: self._one.rate(self._seconds),
            "busy, all threads": lambda: self._beside(self._many),
            "busy, one thread": lambda: self._beside(self._one),
            "bound busy, all threads": lambda: self._beside(self._many, last),
            "bound busy, one thread": lambda: self._beside(self._one, last),
            "four processes": self._together,
        }

    def ends(self) -> dict[str, float]:
        """Seconds to end beside a busy process on one core."""
        with busy_process(max(usable_cpus())):
            return {
                "after SIGTERM": self._start(self._threads).seconds_to_end(True),
                "after the last token": self._start(self._threads).seconds_to_end(False),
            }

    def stop(self) -> None:
        for worker in (self._many, self._one, *self._four):
            worker.stop()

    def _beside(self, worker: Worker, *cpu: int) -> float:
        with busy_process(*cpu):
            return worker.rate(self._seconds)

    def _together(self) -> float:
        for worker in self._four:
            worker.ask(self._seconds)
        return sum(worker.answer() for worker in self._four)


RATIOS = {
    "busy, all threads / alone": ("busy, all threads", "alone, all threads"),
    "busy, all threads / busy, one thread": ("busy, all threads", "busy, one thread"),
    "bound busy, all threads / alone": ("bound busy, all threads", "alone, all threads"),
    "bound busy, all / bound busy, one": ("bound busy, all threads", "bound busy, one thread"),
    "four processes / alone": ("four processes", "alone, all threads"),
}


def measure(sides: dict[str, Situations], rounds: int) -> dict[str, dict[str, list[float]]]:
    samples: dict[str, dict[str, list[float]]] = {
        side: {name: [] for name in situations.all()} for side, situations in sides.items()
    }
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for name in next(iter(sides.values())).all():
            for side, situations in sorted(sides.items(), reverse=number % 2 == 1):
                settle()
                samples[side][name].append(situations.all()[name]())
    return samples


def report(samples: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    for side, rows in samples.items():
        yield f"| {side}, tok/s | min | median | p90 |\n|---|---|---|---|"
        for name, values in rows.items():
            yield f"| {name} | " + " | ".join(f"{v:,.1f}" for v in spread(values).values()) + " |"
        yield "| ratios per round | | | |"
        for name, (above, below) in RATIOS.items():
            ratios = [a / b for a, b in zip(rows[above], rows[below], strict=True)]
            yield f"| {name} | " + " | ".join(f"{v:.2f}" for v in spread(ratios).values()) + " |"
    if len(samples) == 2:
        new, old = (rows["alone, all threads"] for rows in samples.values())
        ratios = [a / b for a, b in zip(new, old, strict=True)]
        yield f"alone, all threads, new / baseline: {spread(ratios)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure decoding on a busy machine.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--baseline", nargs=2, type=Path, metavar=("CHECKOUT", "BUNDLE"))
    options = parser.parse_args()
    threads, seconds = thread_count(None), options.seconds
    print(f"{read_machine().model}, {threads} threads", flush=True)
    sides = {"handglass": Situations(CHECKOUT, options.bundle, threads, seconds)}
    if options.baseline:
        sides["baseline"] = Situations(options.baseline[0], options.baseline[1], threads, seconds)
    try:
        samples = measure(sides, options.rounds)
        print("\n".join(report(samples)))
        print("seconds to end:", json.dumps(sides["handglass"].ends()))
    finally:
        for side in sides.values():
            side.stop()


if __name__ == "__main__":
    main()
