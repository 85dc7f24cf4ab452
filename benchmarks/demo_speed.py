"""Runs `handglass bench` on the demo model, compiled for targets that this machine can run.

    python benchmarks/demo_speed.py [--write-evidence] [TARGET ...]

With --write-evidence the run is recorded as evidence of the targets (targets/evidence). All kernels
fit in the caches, so the figures are only for comparing targets.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from full_size import handglass

from handglass.targets import find_target
from handglass.targets.evidence_writing import add_entry, entry_of

CHECKPOINT = Path(__file__).parents[1] / "examples" / "demo-checkpoint"
FOLDER = Path("build/demo-speed")
SHOWN = ("encode", "pp64", "tg64@0")


def measure(name: str) -> dict[str, dict[str, Any]]:
    """The rows of the benchmark, by name."""
    bundle = FOLDER / name
    handglass("compile", "-m", CHECKPOINT, "-o", bundle, "--target", name, "--overwrite")
    step = handglass("bench", bundle, "--quick")
    return {row["row"]: row for row in step.result["rows"]}


def line(name: str, rows: dict[str, dict[str, Any]]) -> str:
    cells = [f"{row}: {rows[row]['median']:.4g} {rows[row]['unit']}" for row in SHOWN]
    return f"{name}: {', '.join(cells)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the demo model for targets.")
    parser.add_argument("targets", nargs="*", default=["host"], metavar="TARGET")
    parser.add_argument(
        "--write-evidence", action="store_true", help="record the run in targets/evidence"
    )
    arguments = parser.parse_args()
    for name in arguments.targets:
        target = find_target(name)
        print(line(name, measure(name)), flush=True)
        if arguments.write_evidence:
            add_entry(
                target.records_key,
                entry_of("speed of the demo model", Path(__file__).name, timed=True),
            )


if __name__ == "__main__":
    main()
