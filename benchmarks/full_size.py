"""Runs the full-size model end to end: random checkpoint, bundle, one picture, 16 tokens.

    python benchmarks/full_size.py [--model VERSION] [--layers N] [--write-evidence]

Random weights take the same time and memory as trained ones. Every step is a separate process, so
its peak memory is measured separately; a step above the limit is a failure. Compiling may take 1.3
times the largest shard and 2 GB. Prints a Markdown table and writes the same figures to
build/full-size/figures.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peak_memory import Peak, watched
from random_checkpoint import SHARD_BYTES, write_checkpoint
from random_release import write_release
from release_configs import CONFIGS, with_layers

from handglass import __version__
from handglass.runtime.bundle.reader import read_manifest
from handglass.runtime.system.hardware import read_machine
from handglass.runtime.system.machine import thread_count
from handglass.targets import find_target
from handglass.targets.evidence_writing import add_entry, entry_of

FOLDER = Path("build/full-size")
MEMORY_LIMIT = 12e9
SHARDS, CONSTANT = 1.3, 2e9
"""Limit for compiling: this share of the largest shard, and bytes in addition."""
TOKENS = 16
SEED = "seed"


@dataclass(frozen=True)
class Step:
    """The JSON output of a command, and its time and memory."""

    result: dict[str, Any]
    seconds: float
    peak: Peak


def handglass(*arguments: object) -> Step:
    """Run one verb in a child process. Standard error is inherited, so progress is visible."""
    command = [sys.executable, "-m", "handglass.cli.main", *map(str, arguments), "--json"]
    print("$ handglass", *arguments, flush=True)
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        with watched(child.pid) as peak:
            output = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"exit code {child.returncode}: {output}")
    return Step(json.loads(output), time.monotonic() - start, peak)


def checkpoint(model: str, layers: int | None) -> Path:
    """The checkpoint folder; written unless a complete one of the same shape exists."""
    place = folder_of(model)
    folder, done = place / "checkpoint", place / "checkpoint.done"
    config = with_layers(CONFIGS[model], layers)
    shape = json.dumps(config, sort_keys=True)
    if not (done.exists() and done.read_text("utf-8") == shape):
        done.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        show = lambda text: print(text, flush=True)  # noqa: E731
        if model == SEED:
            write_checkpoint(folder, config, "bfloat16", SHARD_BYTES, progress=show)
        else:
            write_release(folder, config, SHARD_BYTES, show)
        done.write_text(shape, "utf-8")
    return folder


def folder_of(model: str) -> Path:
    return FOLDER if model == SEED else FOLDER / model


def picture() -> Path:
    """Small enough for one tile."""
    from PIL import Image

    path = FOLDER / "picture.png"
    Image.effect_noise((448, 448), 80).convert("RGB").save(path)
    return path


def measure(
    model: str, layers: int | None, quantization: str, vision: str | None
) -> dict[str, Any]:
    source, bundle = checkpoint(model, layers), folder_of(model) / "bundle"
    schemes = ["--quantization", quantization]
    schemes += ["--vision-quantization", vision] if vision else []
    compiled = handglass("compile", "-m", source, "-o", bundle, *schemes, "--overwrite")
    question = ("-p", "What is this picture?", "-n", TOKENS)
    ran = handglass("run", "-m", bundle, "--image", picture(), *question)
    timings = ran.result["timings"]
    return {
        "date": datetime.date.today().isoformat(),
        "revision": revision(),
        "handglass": __version__,
        "device": read_machine().model,
        "threads": thread_count(None),
        "model": model,
        "layers": layers or "all",
        "scheme": ", vision ".join(read_manifest(bundle).scheme.values()),
        "compile_s": compiled.seconds,
        "compile_peak_bytes": compiled.peak.resident,
        "compile_anonymous_bytes": compiled.peak.anonymous,
        "compile_limit_bytes": compile_limit(source),
        "bundle_bytes": compiled.result["bundle_bytes"],
        "run_peak_bytes": ran.peak.resident,
        "tokens": len(ran.result["tokens"]),
        **{name: timings[name] for name in ("load_s", "encode_ms", "ttft_ms")},
        **{name: timings[name] for name in ("prefill_tokens", "prefill_tok_s")},
        **{name: timings[name] for name in ("decode_tokens", "decode_tok_s")},
    }


def compile_limit(folder: Path) -> int:
    """The bytes that compiling this checkpoint may take."""
    largest = max(path.stat().st_size for path in folder.glob("*.safetensors"))
    return int(SHARDS * largest + CONSTANT)


def revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not known"


def rows(figures: dict[str, Any]) -> str:
    cells = {
        "device": f"{figures['device']}, {figures['threads']} threads",
        "date, revision": f"{figures['date']}, {figures['revision']}",
        "model": figures["model"],
        "scheme": figures["scheme"],
        "compile": f"{figures['compile_s']:.0f} s, {figures['compile_peak_bytes'] / 1e9:.2f} GB, "
        f"of it {figures['compile_anonymous_bytes'] / 1e9:.2f} GB anonymous; limit "
        f"{figures['compile_limit_bytes'] / 1e9:.1f} GB",
        "bundle": f"{figures['bundle_bytes'] / 1e9:.2f} GB",
        "load": f"{figures['load_s']:.1f} s",
        "image": f"{figures['encode_ms'][0]:.0f} ms",
        "prefill": f"{figures['prefill_tok_s']:.1f} tok/s ({figures['prefill_tokens']} tokens)",
        "decode": f"{figures['decode_tok_s']:.2f} tok/s ({figures['decode_tokens']} tokens)",
        "peak": f"{figures['run_peak_bytes'] / 1e9:.2f} GB",
    }
    lines = (cells.keys(), ["---"] * len(cells), cells.values())
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile and run a random model of full size.")
    parser.add_argument("--model", default=SEED, choices=sorted(CONFIGS), help="release")
    parser.add_argument("--layers", type=int, help="use fewer layers, for a quick test")
    parser.add_argument("--quantization", default="w4a8", help="scheme of the language model")
    parser.add_argument("--vision", help="scheme of the vision tower, if not the default")
    parser.add_argument(
        "--write-evidence", action="store_true", help="record the run in targets/evidence"
    )
    arguments = parser.parse_args()
    if arguments.write_evidence and (arguments.layers or arguments.model != SEED):
        parser.error("--write-evidence is for the full size of the seed: without --layers, --model")
    folder = folder_of(arguments.model)
    folder.mkdir(parents=True, exist_ok=True)
    schemes = arguments.quantization, arguments.vision
    figures = measure(arguments.model, arguments.layers, *schemes)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(rows(figures))
    limits = {"compile": figures["compile_limit_bytes"], "run": MEMORY_LIMIT}
    for step, limit in limits.items():
        peak = figures[f"{step}_peak_bytes"]
        if peak > limit:
            raise SystemExit(f"{step}: peak memory {peak / 1e9:.2f} GB, limit {limit / 1e9:.2f} GB")
    if arguments.write_evidence:
        entry = entry_of("speed of the full size", Path(__file__).name, timed=True)
        add_entry(find_target("host").records_key, entry)


if __name__ == "__main__":
    main()
