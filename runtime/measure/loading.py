"""Loads a bundle in a separate process, optionally asks one question, and reports time and memory.
A dual encoder encodes a picture and a text instead.

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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handglass.errors import DeviceError

from ..system.memory import peak_bytes

if TYPE_CHECKING:
    from ..bundle.entries import VisionEntry

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
    from ..answer.model import Model  # noqa: F401  its imports are a part of what is measured

    imported = time.monotonic()
    ask = _loaded(Path(args.bundle), args.threads, args.device)
    ready = time.monotonic()
    if args.task == "ask":
        ask()
    report = {"imported": imported, "ready": ready, "peak_bytes": peak_bytes()}
    os.write(1, json.dumps(report).encode())


def _loaded(path: Path, threads: int | None, device: str | None) -> Callable[[], object]:
    """Load a bundle; what asks it."""
    from ..bundle.reader import Bundle, read_manifest_text

    if "encoders" in json.loads(read_manifest_text(path)):
        from ..engine.encoders import EncoderSession
        from ..prompt.texts import open_texts
        from .encoder_steps import EncoderSteps

        bundle = Bundle.open(path, "remembered")
        session = EncoderSession(bundle, threads, device)
        if session.encoders.text is not None:
            open_texts(bundle)
        return lambda: EncoderSteps(session).prepare()
    from ..answer.model import Model

    model = Model.load(path, threads, device=device)
    return lambda: model.chat(QUESTION, _pictures(model.manifest.vision), max_tokens=ANSWER_TOKENS)


def _pictures(vision: VisionEntry | None) -> list[Any]:
    """One random picture, if the model takes any."""
    if vision is None:
        return []
    import numpy as np

    shape = (vision.image_size, vision.image_size, 3)
    return [np.random.default_rng(0).integers(0, 256, shape, np.uint8)]


if __name__ == "__main__":
    main()
