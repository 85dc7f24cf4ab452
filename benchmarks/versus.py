"""Compares bundles with llama.cpp, OpenVINO, ONNX Runtime and PyTorch at their best.

    python benchmarks/versus.py [BUNDLE ...] [--peers openvino,llama.cpp,onnxruntime,torch]
    python benchmarks/versus.py BUNDLE --busy                 also beside a busy process
    python benchmarks/versus.py BUNDLE --first-round          only try the configurations
    python benchmarks/versus.py --layers 2                    a small model, for a quick test

A first round tries each peer's configurations, one process at a time, and keeps the seconds in
build/versus; delete the file of trials to repeat it. The second round enters the best one of every
row: all processes are started, and samples are interleaved, one row of one engine at a time while
all others sleep, so a ratio never compares different times on a shared machine. A ratio is our
speed over theirs within one round: above 1, handglass is faster. A peer that cannot be installed,
started or run is named with its reason. Every peer has its own random weights of the bundle's
shape. Environments, models and logs are kept in build/versus.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from random_checkpoint import SEED_JSON, write_checkpoint
from versus_engines import PEERS
from versus_peers import Configuration, Peer, PeerError
from versus_process import BUSY, Worker
from versus_shape import name_of, shape_of
from versus_table import OURS, Seconds, as_text, ratios
from versus_trials import BUSY_ROWS, TRIED, Trials, fitting
from versus_worker import FEW_STEPS, ROWS, free_memory

from handglass.runtime.bundle.reader import read_manifest
from handglass.runtime.system.hardware import read_machine
from handglass.runtime.system.machine import thread_count

ROOT = Path("build/versus")
SAMPLES = 5
USED = 0.85
"""The share of the free memory that the peers may take."""
TIMED = tuple(row for row in ROWS if row != f"tg{FEW_STEPS}@0")


def small_bundle(layers: int, schemes: list[str]) -> Path:
    """Compile a bundle with the full-size widths and few layers."""
    vision = {**SEED_JSON["vision_config"], "num_hidden_layers": layers}
    config = {**SEED_JSON, "num_hidden_layers": layers, "vision_config": vision}
    folder = ROOT / f"layers-{layers}"
    if not (folder / "checkpoint" / "config.json").exists():
        write_checkpoint(folder / "checkpoint", config)
    command = [sys.executable, "-m", "handglass.cli.main", "compile", "--overwrite", *schemes]
    paths = ["-m", str(folder / "checkpoint"), "-o", str(folder / "bundle")]
    subprocess.run([*command, *paths], check=True, stdout=sys.stderr)
    return folder / "bundle"


def write_config(bundle: Path) -> Path:
    """Write the shape for the peers, into a folder for models of this shape."""
    config = dict(read_manifest(bundle).model.config)
    path = ROOT / name_of(config) / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(shape_of(config)), "utf-8")
    return path


@dataclass
class Comparison:
    """One bundle against all peers."""

    bundle: Path
    threads: int
    rows: Sequence[str]
    failed: dict[str, str] = field(default_factory=dict)
    """Why a peer has no figures, by its name."""
    chosen: dict[str, dict[str, Configuration]] = field(default_factory=dict)
    """Configurations by peer and row."""
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._config = write_config(self.bundle)

    def try_all(self, peers: Sequence[Peer]) -> None:
        """Run or read the first round, and choose what memory has room for."""
        needed = [row for row in (*TRIED, *BUSY_ROWS) if self._needs(row)]
        tried = {}
        for peer in peers:
            trials = Trials(self._config.with_name(f"trials-{peer.name}.jsonl"))
            trials.complete(peer, partial(self._start, peer), needed)
            tried[peer.name] = trials.ran()
            if not tried[peer.name]:
                self.failed[peer.name] = trials.all[0].failed
        self.chosen = fitting(tried, self.rows, free_memory() * USED)

    def start(self, peers: Sequence[Peer]) -> None:
        """Start our process, and one for each configuration that is the best of some row."""
        ours = Peer(
            OURS, "versus_ours.py", "", visions={"": {"bundle": str(self.bundle.absolute())}}
        )
        self._admit(self._start(ours, Configuration()), self.rows)
        for peer in peers:
            rows_of: dict[Configuration, list[str]] = {}
            for row, configuration in self.chosen[peer.name].items():
                rows_of.setdefault(configuration, []).append(row)
            for configuration, rows in rows_of.items():
                try:
                    worker = self._start(peer, configuration)
                except PeerError as error:
                    self.failed[peer.name] = str(error)
                    continue
                self._admit(worker, rows)

    def _admit(self, worker: Worker, rows: Sequence[str]) -> None:
        worker.rows = [row for row in rows if worker.can(row)]
        self.workers.append(worker)

    def _needs(self, row: str) -> bool:
        return row in self.rows or not row.startswith(BUSY)

    def _start(self, peer: Peer, configuration: Configuration) -> Worker:
        print(f"starting {peer.name}: {configuration}", file=sys.stderr, flush=True)
        return Worker(peer, configuration, ROOT, self._config, self.threads)

    def close(self) -> None:
        for worker in self.workers:
            worker.close()

    def run(self, samples: int) -> dict[str, Any]:
        """Measure, and return what the table is made of."""
        names = list(dict.fromkeys(worker.name for worker in self.workers))
        seconds: Seconds = {row: {name: [] for name in names} for row in self.rows}
        try:
            self.failed |= measure(self.workers, self.rows, samples, seconds)
        except KeyboardInterrupt:
            print("interrupted: partial results", file=sys.stderr)
        entered = {
            row: {name: str(by_row[row]) for name, by_row in self.chosen.items() if row in by_row}
            for row in self.rows
        }
        machine, manifest = read_machine(), read_manifest(self.bundle)
        return {
            "model": name_of(dict(manifest.model.config)),
            "device": f"{machine.model}, {machine.cores} cores",
            "date": datetime.date.today().isoformat(),
            "revision": revision(),
            "samples": samples,
            "engines": [worker.about for worker in self.workers],
            "rows": ratios(seconds, self.failed, entered),
            "memory": {label(one): peak for one in self.workers if (peak := one.peak_bytes())},
            "bundle_bytes": sum(p.stat().st_size for p in self.bundle.rglob("*") if p.is_file()),
        }


def label(worker: Worker) -> str:
    return worker.name if worker.name == OURS else f"{worker.name}: {worker.configuration}"


def measure(
    workers: Sequence[Worker], rows: Sequence[str], samples: int, seconds: Seconds
) -> dict[str, str]:
    """Fill `seconds`; the order of the engines is rotated by one in each round.

    Returns the peers that ended, with their reasons; if ours ends, nothing is left to compare.
    """
    failed: dict[str, str] = {}
    for number in range(samples):
        turned = [*workers[number % len(workers) :], *workers[: number % len(workers)]]
        for row in rows:
            print(f"round {number + 1} of {samples}: {row}", file=sys.stderr, flush=True)
            for worker in turned:
                if row in worker.rows and worker.name not in failed:
                    try:
                        seconds[row][worker.name].append(worker.seconds(row))
                    except PeerError as error:
                        if worker.name == OURS:
                            raise
                        failed[worker.name] = str(error)
    return failed


def revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not known"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare bundles with other engines.")
    parser.add_argument("bundles", type=Path, nargs="*", metavar="BUNDLE")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated")
    parser.add_argument("--rows", default=",".join(TIMED), help="comma-separated")
    parser.add_argument("--busy", action="store_true", help="also rows beside a busy process")
    parser.add_argument("--first-round", action="store_true", help="only try the configurations")
    parser.add_argument("--layers", type=int, help="compile and compare a small model")
    parser.add_argument("--quantization", default="w4", help="scheme of the small model")
    parser.add_argument("--vision-quantization", default="bf16", help="scheme of its vision tower")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--threads", type=int, default=thread_count(None))
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per bundle instead of a table"
    )
    found = parser.parse_args()
    found.peers, found.rows = found.peers.split(","), found.rows.split(",")
    for given, known in ((found.peers, PEERS), (found.rows, TIMED)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    if found.busy:
        found.rows += BUSY_ROWS
    return found


def bundles(options: argparse.Namespace) -> list[Path]:
    if not options.layers:
        return options.bundles or [Path("build/full-size/bundle")]
    schemes = ["--quantization", options.quantization]
    schemes += ["--vision-quantization", options.vision_quantization]
    return [small_bundle(options.layers, schemes)]


def main() -> None:
    options = arguments()
    ROOT.mkdir(parents=True, exist_ok=True)
    peers = [peer for name, peer in PEERS.items() if name in options.peers]
    for bundle in bundles(options):
        comparison = Comparison(bundle, options.threads, options.rows)
        comparison.try_all(peers)
        if not options.first_round:
            with closing(comparison):
                comparison.start(peers)
                result = comparison.run(options.samples)
            print(json.dumps(result) if options.json else as_text(result), flush=True)


if __name__ == "__main__":
    main()
