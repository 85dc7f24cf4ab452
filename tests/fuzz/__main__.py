"""`python -m fuzz`: reads thousands of damaged inputs and saves those that are met badly.

Met badly is: the process ends or hangs, reading takes more memory or time than child.py allows, or
the error is one that the command line would call a bug in handglass.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .child import input_of

ROOT = Path(__file__).parents[2]
BATCH = 1000
"""Inputs per process."""


@dataclass(frozen=True)
class Fault:
    number: int
    reader: str
    why: str


def faults_of(seed: int, start: int, stop: int, only: str = "") -> Iterator[Fault]:
    """Read a range of inputs; a process that ends is replaced, from the next input on."""
    while start < stop:
        last = Fault(start, "start", "")
        done = run_child(seed, start, stop, only)
        for line in done.stdout.splitlines():
            event = json.loads(line)
            if "fault" in event:
                yield Fault(last.number, last.reader, event["fault"])
            elif "done" in event:
                return
            else:
                last = Fault(event["number"], event["reader"], "")
        why = f"the process ended with {done.returncode}\n{done.stderr[-2000:]}"
        yield Fault(last.number, last.reader, why)
        if last.reader == "start":
            return  # it did not even begin
        start = last.number + 1


def run_child(seed: int, start: int, stop: int, only: str) -> subprocess.CompletedProcess[str]:
    folders = (ROOT, *(ROOT / "tests" / name for name in (".", "support")), ROOT / "benchmarks")
    numbers = map(str, (seed, start, stop))
    return subprocess.run(
        [sys.executable, "-m", "fuzz.child", *numbers, *([only] if only else [])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        check=False,
    )


def fuzz(seed: int, count: int, jobs: int = 1, only: str = "") -> list[Fault]:
    """The faults of the inputs 0 to `count`."""
    starts = range(0, count, BATCH)
    with ThreadPoolExecutor(jobs) as pool:
        batches = pool.map(
            lambda start: list(faults_of(seed, start, min(start + BATCH, count), only)), starts
        )
        return [fault for batch in batches for fault in batch]


def save(folder: Path, seed: int, fault: Fault, only: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{fault.reader}-{seed}-{fault.number}"
    path.write_bytes(input_of(seed, fault.number, only)[1])
    return path


def main() -> int:
    parser = argparse.ArgumentParser("python -m fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--reader", default="", help="only this reader, see readers.py")
    parser.add_argument("--save", type=Path, default=ROOT / "build" / "fuzz")
    args = parser.parse_args()
    faults = fuzz(args.seed, args.count, args.jobs, args.reader)
    for fault in faults:
        path = save(args.save, args.seed, fault, args.reader)
        print(f"{fault.reader}: seed {args.seed}, number {fault.number}: {path}\n{fault.why}")
    print(f"{args.count} inputs of seed {args.seed}: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
