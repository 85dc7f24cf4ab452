"""A bundle asked again and again in one process: memory stays flat, and a kill harms nothing.

    python benchmarks/soak.py BUNDLE [--device vulkan:0] [--questions 1000]

Afterwards a second process is killed in the middle of an answer, by three signals in turn, and the
bundle is asked once more. Prints one JSON object; exit 1 where memory grew or an answer changed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import handglass
from handglass.runtime.model import Model

WARM = 0.2
"""Of the questions, before memory counts: caches fill, pipelines are made."""
SLACK_BYTES = 4 << 20
"""Of the process: Python's own memory breathes."""
LENGTHS = (1, 3, 11, 40)
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--questions", type=int, default=1000)
    asked = parser.parse_args()
    told = soak(handglass.load(asked.bundle, device=asked.device), asked.questions)
    told["killed"] = [kill(asked.bundle, asked.device, number) for number in SIGNALS]
    told["ok"] = told["same"] and told["flat"] and all(one["next"] == 0 for one in told["killed"])
    print(json.dumps(told))
    return 0 if told["ok"] else 1


def soak(model: Model, questions: int) -> dict[str, Any]:
    """Questions of several lengths in turn, each with a picture of its own or without one."""
    side, random = model.manifest.vision.image_size, np.random.default_rng(0)
    pictures = [random.integers(0, 256, (side, side, 3), np.uint8) for _ in range(4)]
    first: dict[int, tuple[int, ...]] = {}
    memory: list[tuple[int, int]] = []
    start, same = time.monotonic(), True
    for number in range(questions):
        kind = number % (len(LENGTHS) * 2)
        text = "What is this? " * LENGTHS[kind % len(LENGTHS)]
        images = pictures[kind % len(pictures) :][:1] if kind >= len(LENGTHS) else []
        answer = model.chat(text, images, max_tokens=8)
        same = same and answer.tokens == first.setdefault(kind, answer.tokens)
        memory.append((resident(), device_bytes(model)))
    warm = int(questions * WARM)
    grown = [max(m[n] for m in memory[warm:]) - memory[warm][n] for n in (0, 1)]
    return {
        "questions": questions,
        "seconds": time.monotonic() - start,
        "same": same,
        "flat": grown[0] <= SLACK_BYTES and grown[1] == 0,
        "process_bytes": {"warm": memory[warm][0], "end": memory[-1][0], "grown": grown[0]},
        "device_bytes": {"warm": memory[warm][1], "end": memory[-1][1], "grown": grown[1]},
    }


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def device_bytes(model: Model) -> int:
    """What is alive on the device between two questions."""
    gpu = getattr(model.session, "gpu", None)
    if gpu is None:
        return 0
    from handglass.runtime.vulkan import vulkan_statistics

    return int(vulkan_statistics(gpu.index)["live_bytes"])


def kill(bundle: Path, device: str | None, number: signal.Signals) -> dict[str, Any]:
    """In the middle of an answer; then the next run must be as if nothing had happened."""
    command = [sys.executable, "-m", "handglass.cli.main", "run", "-m", str(bundle)]
    command += ["-p", "Tell me everything. " * 20, *(["--device", device] if device else [])]
    child = subprocess.Popen(
        [*command, "-n", "512"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.read(1)  # it speaks
    child.send_signal(number)
    child.communicate(timeout=120)
    after = subprocess.run([*command, "-n", "2"], capture_output=True, timeout=600)
    return {"signal": number.name, "code": child.returncode, "next": after.returncode}


if __name__ == "__main__":
    sys.exit(main())
