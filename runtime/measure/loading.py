"""A process of its own that loads a bundle, asks one question if told to, and says what it took.

    python -m handglass.runtime.measure.loading BUNDLE {load|ask} [--threads N] [--device DEVICE]

`measure` starts one and returns its report. CLOCK_MONOTONIC is one for all processes, so the clock
can start here and stop there: the start of Python counts. The report says where the time went.
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
    """Seconds since the process was started; bytes are the most it ever held."""

    imported_s: float
    ready_s: float
    peak_bytes: int


def measure(
    bundle: Path, ask: bool = False, threads: int | None = None, device: str | None = None
) -> Loading:
    """One load in a child; `ask` also lets it answer a question about a picture."""
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
        raise DeviceError(f"{bundle}: the process that loads it ended with {child.returncode}")
    told = json.loads(child.stdout)
    return Loading(told["imported"] - start, told["ready"] - start, told["peak_bytes"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("task", choices=("load", "ask"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device")
    asked = parser.parse_args()
    from ..answer.model import Model

    imported = time.monotonic()
    model = Model.load(asked.bundle, asked.threads, device=asked.device)
    ready = time.monotonic()
    if asked.task == "ask":
        import numpy as np

        vision, pictures = model.manifest.vision, []
        if vision is not None:
            shape = (vision.image_size, vision.image_size, 3)
            pictures = [np.random.default_rng(0).integers(0, 256, shape, np.uint8)]
        model.chat(QUESTION, pictures, max_tokens=ANSWER_TOKENS)
    told = {"imported": imported, "ready": ready, "peak_bytes": peak_bytes()}
    os.write(1, json.dumps(told).encode())


if __name__ == "__main__":
    main()
