"""Compares a bundle with llama.cpp, OpenVINO and PyTorch in one run of interleaved samples.

    python benchmarks/versus.py [BUNDLE] [--peers openvino,llama.cpp,torch-f32,torch-bf16]
    python benchmarks/versus.py --layers 2                    a small model, for a quick test

Every peer is a separate process, with a model of the bundle's shape and its own random weights.
Samples are interleaved: one row of one engine at a time while all others sleep, so a ratio never
compares different times on a shared machine. A ratio is our speed over theirs within one round:
above 1, handglass is faster. Environments, models and logs are kept in build/versus.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from random_checkpoint import SEED_JSON, write_checkpoint
from versus_peers import PEERS, Peer, PeerError, Worker
from versus_worker import ROWS

from handglass.runtime.bundle.reader import read_manifest
from handglass.runtime.measure.steps import spread
from handglass.runtime.system.hardware import read_machine
from handglass.runtime.system.machine import thread_count

ROOT = Path("build/versus")
OURS = "handglass"
SAMPLES = 5

Seconds = dict[str, dict[str, list[float]]]
"""Seconds per round, by row and engine."""


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
    layers = config["num_hidden_layers"]
    path = ROOT / f"shape-{config['hidden_size']}x{layers}" / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config), "utf-8")
    return path


def start(bundle: Path, names: list[str], threads: int) -> tuple[list[Worker], dict[str, str]]:
    """Start the engines, ours first. Returns the workers, and the errors of the others."""
    config = write_config(bundle)
    ours = Peer(OURS, "versus_ours.py", "", words=(str(bundle.absolute()),))
    workers, failed = [], {}
    peers = [peer for name, peer in PEERS.items() if name in names]
    for peer in (ours, *peers):
        print(f"starting {peer.name}", file=sys.stderr, flush=True)
        try:
            workers.append(Worker(peer, ROOT, config, threads))
        except PeerError as error:
            failed[peer.name] = str(error)
            print(error, file=sys.stderr, flush=True)
    if OURS in failed:
        raise SystemExit(failed[OURS])
    return workers, failed


def measure(workers: list[Worker], rows: list[str], samples: int, seconds: Seconds) -> None:
    """Fill `seconds`; the order of the engines is rotated by one in each round."""
    for number in range(samples):
        turned = workers[number % len(workers) :] + workers[: number % len(workers)]
        for row in rows:
            print(f"round {number + 1} of {samples}: {row}", file=sys.stderr, flush=True)
            for worker in turned:
                if row in worker.rows:
                    seconds[row][worker.name].append(worker.seconds(row))


def ratios(seconds: Seconds, failed: dict[str, str]) -> list[dict[str, Any]]:
    """One line per row and peer: the seconds of both, and our speed over theirs."""
    lines = []
    for row, engines in seconds.items():
        ours = engines[OURS]
        for name, theirs in engines.items():
            pairs = [their / our for our, their in zip(ours, theirs, strict=False)]
            if name != OURS and pairs:
                lines.append(line(row, name, spread(pairs), spread(ours), spread(theirs)))
        for name, why in failed.items():
            lines.append({**line(row, name, None, spread(ours), None), "note": why})
    return lines


def line(row: str, peer: str, ratio: Any, ours: Any, theirs: Any) -> dict[str, Any]:
    return {"row": row, "peer": peer, "ratio": ratio, "ours_s": ours, "theirs_s": theirs}


def as_text(result: dict[str, Any]) -> str:
    lines = [
        f"{result['device']}, {result['date']}, {result['revision']}",
        f"{result['samples']} interleaved samples",
        "ratio: speed, ours over theirs; above 1 we are faster",
        "",
    ]
    for about in result["engines"]:
        facts = [about["version"], about["weights"], f"cache {about['cache']}"]
        facts += [f"{about['threads']} threads", about["wait"]]
        lines.append(f"* {about['name']}: {'; '.join(facts)}")
    lines += ["", "| row | against | ratio: min | median | p90 | ours s | theirs s |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines += map(line_text, result["rows"])
    return "\n".join(lines)


def line_text(line: dict[str, Any]) -> str:
    if line["ratio"] is None:
        return f"| {line['row']} | {line['peer']} | not measured: {line['note']} | | | | |"
    ratio = [f"{line['ratio'][name]:.2f}" for name in ("min", "median", "p90")]
    both = [f"{line[name]['median']:.3g}" for name in ("ours_s", "theirs_s")]
    return f"| {' | '.join([line['row'], line['peer'], *ratio, *both])} |"


def revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not known"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare a bundle with other engines.")
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("build/full-size/bundle"))
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated")
    parser.add_argument("--rows", default=",".join(ROWS), help="comma-separated")
    parser.add_argument("--layers", type=int, help="compile and compare a small model")
    parser.add_argument("--quantization", default="w4", help="scheme of the small model")
    parser.add_argument("--vision-quantization", default="bf16", help="scheme of its vision tower")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--threads", type=int, default=thread_count(None))
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    found = parser.parse_args()
    found.peers, found.rows = found.peers.split(","), found.rows.split(",")
    for given, known in ((found.peers, PEERS), (found.rows, ROWS)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return found


def main() -> None:
    options = arguments()
    ROOT.mkdir(parents=True, exist_ok=True)
    bundle = options.bundle
    if options.layers:
        schemes = ["--quantization", options.quantization]
        schemes += ["--vision-quantization", options.vision_quantization]
        bundle = small_bundle(options.layers, schemes)
    workers, failed = start(bundle, options.peers, options.threads)
    names = [worker.name for worker in workers]
    seconds: Seconds = {row: {name: [] for name in names} for row in options.rows}
    try:
        measure(workers, options.rows, options.samples, seconds)
    except KeyboardInterrupt:
        print("interrupted: partial results", file=sys.stderr)
    machine = read_machine()
    result = {
        "device": f"{machine.model}, {machine.cores} cores",
        "date": datetime.date.today().isoformat(),
        "revision": revision(),
        "samples": options.samples,
        "engines": [worker.about for worker in workers],
        "rows": ratios(seconds, failed),
    }
    for worker in workers:
        worker.close()
    print(json.dumps(result) if options.json else as_text(result))


if __name__ == "__main__":
    main()
