"""Soak test of a bundle: memory does not grow, answers are reproducible, signals do no harm.

    python benchmarks/soak.py BUNDLE [--device vulkan:0] [--questions N] [--sessions N] [--loads N]

In one process, it asks one model many questions, runs sessions of several turns whose history is
cleared, and loads, asks and unloads models. Then it ends processes by three signals, at startup and
in the middle of an answer, and asks the bundle again after each. Prints one JSON object; the exit
code is 1 if memory grew, an answer changed or a run after a signal failed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import handglass
from handglass.runtime.answer.model import Model
from handglass.runtime.answer.pictures import TILES_KEPT

WARM = 0.2
"""Fraction of the rounds that warm up caches and pipelines, before memory is compared."""
SLACK_BYTES = 4 << 20
"""Allowed growth of the process: Python's own memory fluctuates."""
LENGTHS = (1, 3, 11, 40)
SHOWN = 4
"""One in so many questions is about a picture."""
PICTURES = TILES_KEPT + 8
"""Number of pictures: enough that each is evicted before it is repeated, and encoded again."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
"""Signals and the exit codes that they must lead to."""
WHILE_IT_STARTS_S = 0.6
COUNTED = (
    *("live_bytes", "live_buffers", "blocks", "block_bytes"),
    *("pipelines", "host_chunks", "descriptor_pools"),
)
"""Statistics of the Vulkan library that must not grow."""


def main() -> int:
    options = arguments()
    load = lambda: handglass.load(options.bundle, device=options.device)  # noqa: E731
    model = load()
    result: dict[str, Any] = {
        "questions": repeat(options.questions, lambda n: question(model, n), model),
        "sessions": repeat(options.sessions, lambda n: session(model, n), model),
    }
    result["loads"] = repeat(options.loads, lambda n: question(load(), 0), model)
    result["killed"] = [
        kill(options.bundle, options.device, number, when)
        for number in SIGNALS
        for when in ("starting", "answering")
    ]
    rounds = [result[name] for name in ("questions", "sessions", "loads") if result[name]]
    result["ok"] = all(one["same"] and one["flat"] for one in rounds)
    result["ok"] = result["ok"] and all(one["ok"] for one in result["killed"])
    print(json.dumps(result, indent=1))
    return 0 if result["ok"] else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--loads", type=int, default=50)
    return parser.parse_args()


def question(model: Model, number: int) -> tuple[int, tuple[int, ...]]:
    """Ask a question. Returns its number and the tokens of the answer."""
    length = LENGTHS[number % len(LENGTHS)]
    shown = number // SHOWN % PICTURES if number % SHOWN == SHOWN - 1 else None
    images = [] if shown is None else [picture(model, shown)]
    answer = model.chat("What is this? " * (length if shown is None else 1), images, max_tokens=8)
    return length if shown is None else -shown, answer.tokens


def session(model: Model, number: int) -> tuple[int, tuple[int, ...]]:
    """Run three turns, the second with a picture, independent of the next session."""
    shown, found = number % 3, ()
    turns: list[dict[str, Any]] = []
    for text, images in (("Hello", []), ("What is this?", [shown]), ("Which colour?", [])):
        turns.append({"role": "user", "content": [*(picture(model, n) for n in images), text]})
        answer = model.chat(turns, max_tokens=8)
        found += answer.tokens
        turns.append({"role": "assistant", "content": answer.text})
    return shown, found


def picture(model: Model, number: int) -> np.ndarray:
    assert model.manifest.vision is not None
    side = model.manifest.vision.image_size
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


@dataclass
class Watch:
    """Records the memory of this process and its device, once per round."""

    device: int | None
    readings: list[dict[str, int]] = field(default_factory=list)

    def read(self) -> None:
        gc.collect()
        found = {"process_bytes": resident()}
        if self.device is not None:
            from handglass.runtime.devices.vulkan import vulkan_statistics

            counts = vulkan_statistics(self.device)
            found |= {name: int(counts[name]) for name in COUNTED}
        self.readings.append(found)

    def summary(self) -> dict[str, dict[str, int]]:
        """For each quantity: the maximum during warm-up, the maximum after it, the last value."""
        warm = max(1, int(len(self.readings) * WARM))
        return {
            name: {
                "warm": max(one[name] for one in self.readings[:warm]),
                "most": max(one[name] for one in self.readings[warm:]),
                "end": self.readings[-1][name],
            }
            for name in self.readings[0]
        }


def repeat(
    rounds: int, ask: Callable[[int], tuple[int, tuple[int, ...]]], model: Model
) -> dict[str, Any]:
    """Run the rounds. A repeated round must give the same answer. Empty if there are no rounds."""
    if rounds < 2:
        return {}
    gpu = getattr(model.session, "gpu", None)
    watch, same = Watch(gpu.index if gpu else None), True
    first: dict[int, tuple[int, ...]] = {}
    start = time.monotonic()
    for number in range(rounds):
        which, tokens = ask(number)
        same = same and tokens == first.setdefault(which, tokens)
        watch.read()
    readings = watch.summary()
    slack = {"process_bytes": SLACK_BYTES}
    return {
        "rounds": rounds,
        "seconds": round(time.monotonic() - start, 1),
        "different": len(first),
        "same": same,
        "flat": all(held["most"] - held["warm"] <= slack.get(n, 0) for n, held in readings.items()),
        "held": readings,
    }


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def kill(bundle: Path, device: str | None, number: signal.Signals, when: str) -> dict[str, Any]:
    """Send a signal at startup or during an answer; the next run must work normally."""
    command = [sys.executable, "-m", "handglass.cli.main", "run", "-m", str(bundle)]
    command += ["-p", "Tell me everything. " * 20, *(["--device", device] if device else [])]
    child = subprocess.Popen(
        [*command, "-n", "512", "--temp", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    if when == "answering":
        child.stdout.read(1)  # the answer has begun
    else:
        time.sleep(WHILE_IT_STARTS_S)
    child.send_signal(number)
    child.communicate(timeout=120)
    after = subprocess.run([*command, "-n", "2"], capture_output=True, timeout=600)
    ok = child.returncode == ENDS[number] and after.returncode == 0
    ends = {"code": child.returncode, "next": after.returncode}
    return {"signal": number.name, "when": when, **ends, "ok": ok}


if __name__ == "__main__":
    sys.exit(main())
