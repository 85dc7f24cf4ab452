"""Loads a bundle in a separate process, optionally asks one question, and reports time and memory.

    python -m handglass.runtime.measure.loading BUNDLE {load|ask} [--threads N] [--device DEVICE]

`measure` starts the process and returns its report. All processes share CLOCK_MONOTONIC, so the
parent starts the clock and the child stops it: the start of Python is included. The report gives
the time of the imports separately.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from handglass.errors import DeviceError

from ..system.memory import peak_bytes

ANSWER_TOKENS = 16
QUESTION = "What is this picture?"
TIMEOUT_S = 900


@dataclass(frozen=True)
class Loading:
    """Seconds since the start of the process, and its peak memory in bytes."""

    imported_s: float
    ready_s: float
    peak_bytes: int


def measure(
    bundle: Path, ask: bool = False, threads: int | None = None, device: str | None = None
) -> Loading:
    """Load the bundle in a child process; with `ask`, also answer a question about a picture.

    Raises DeviceError if the child fails.
    """
    command = [sys.executable, "-m", __name__, str(bundle), "ask" if ask else "load"]
    command += ["--threads", str(threads)] if threads else []
    command += ["--device", device] if device else []
    start = time.monotonic()
    child = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if child.returncode:
        raise DeviceError(
            f"{bundle}: loading it in a child process failed with exit code {child.returncode}"
        )
    report = json.loads(child.stdout)
    return Loading(report["imported"] - start, report["ready"] - start, report["peak_bytes"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("task", choices=("load", "ask"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device")
    args = parser.parse_args()
    from ..answer.model import Model

    imported = time.monotonic()
    model = Model.load(args.bundle, args.threads, device=args.device)
    ready = time.monotonic()
    if args.task == "ask":
        import numpy as np

        vision, pictures = model.manifest.vision, []
        if vision is not None:
            shape = (vision.image_size, vision.image_size, 3)
            pictures = [np.random.default_rng(0).integers(0, 256, shape, np.uint8)]
        model.chat(QUESTION, pictures, max_tokens=ANSWER_TOKENS)
    report = {"imported": imported, "ready": ready, "peak_bytes": peak_bytes()}
    os.write(1, json.dumps(report).encode())


if __name__ == "__main__":
    main()
