"""Soak test of what people use: nothing is lost, and memory does not grow.

    python benchmarks/soak_all.py BUNDLE [--pictures 100] [--in-flight 200] [--kills 3]

Pictures and tokens go through `handglass serve` with two clients and one that vanishes
(soak_serve.py); then many requests with pictures are in flight at once (soak_flight.py); then
`compile`, `tune` and the saving of a chat are killed at random moments (soak_killed.py). Prints a
table; the exit code is 1 if anything was lost or memory grew. 0 of a kind leaves it out.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from soak_flight import HELD_BYTES, ROUNDS, Flight, flown
from soak_killed import Killed, kill_compile, kill_save, kill_tune
from soak_serve import SLACK_BYTES, soaked

from handglass.cli.output import columns

CHECKPOINT = Path(__file__).parents[1] / "examples" / "demo-checkpoint"
HEAD = ("WHAT", "DONE", "LOST", "MEMORY", "")


@dataclass
class Row:
    what: str
    done: str
    note: str
    lost: list[str] = field(default_factory=list)
    grown_bytes: float | None = None
    slack_bytes: int = SLACK_BYTES

    @property
    def is_right(self) -> bool:
        return not self.lost and (self.grown_bytes or 0) <= self.slack_bytes

    @property
    def cells(self) -> tuple[str, ...]:
        grown = "" if self.grown_bytes is None else f"{self.grown_bytes / 1e6:+.1f} MB"
        return self.what, self.done, str(len(self.lost)), grown, self.note


def main() -> int:
    options = arguments()
    rows: list[Row] = []
    for row in rows_of(options):
        rows.append(row)
        print(columns([row.cells]), file=sys.stderr, flush=True)
    print(columns([HEAD, *(row.cells for row in rows)]))
    for message in (message for row in rows for message in row.lost):
        print(message)
    is_right = all(row.is_right for row in rows)
    print("nothing was lost" if is_right else "FAILED")
    return 0 if is_right else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="to compile and tune")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--kills", type=int, default=3, help="of each verb")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def rows_of(options: argparse.Namespace) -> Iterator[Row]:
    if options.pictures:
        yield served(options)
    if options.in_flight:
        yield in_flight(flown(options.bundle, options.in_flight, options.device))
    if options.kills:
        kinds = ((kill_compile, options.checkpoint), (kill_tune, options.checkpoint))
        for kill, source in (*kinds, (kill_save, options.bundle)):
            yield killed(kill, source, options.kills, random.Random(options.seed))


def served(options: argparse.Namespace) -> Row:
    found = soaked(options.bundle, options.pictures, options.tokens, options.device)
    lost = [f"serve: {found[name]} answers {name}" for name in ("lost", "different") if found[name]]
    if not found["ok"] and not lost:
        lost = [f"serve: {found}"]
    note = f"{found['answers']} answers, {found['left']} clients left in the middle"
    done = f"{found['pictures']} pictures, {found['tokens']} tokens"
    return Row("serve", done, note, lost, found["grown_mb"] * 1e6)


def in_flight(flight: Flight) -> Row:
    note = f"at most {flight.most_waiting} waited, {flight.refused} refused with 429 and repeated"
    done = f"{flight.answered} answers in {ROUNDS} rounds"
    grown = max(flight.resident[1:]) - flight.resident[0]
    slack = SLACK_BYTES + flight.count * HELD_BYTES
    return Row("in flight", done, note, flight.lost, grown, slack)


def killed(
    kill: Callable[[Path, Path, int, random.Random], Killed],
    source: Path,
    kills: int,
    draw: random.Random,
) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        found = kill(source, Path(folder), kills, draw)
    note = f"{found.middle} in the middle; the next run goes on"
    return Row(f"kill -9 of {found.what}", f"{found.kills} kills", note, found.lost)


if __name__ == "__main__":
    sys.exit(main())
