"""The worker side of `versus.py`: a process that runs one row on request and otherwise sleeps.

Started as `python versus_NAME.py CONFIG FOLDER THREADS SETTINGS`, the last being JSON. When it is
ready, it writes one line: {"about": {...}, "rows": [...]}. Then, for each row named on standard
input, it writes one line with the seconds the row took. Between rows it blocks in a read and uses
no CPU time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TextIO

PROMPTS, POSITIONS = (64, 512), (0, 512, 2048)
QUESTION_TOKENS, ANSWER_TOKENS, STEPS, FEW_STEPS = 16, 64, 64, 16
ROWS = (
    "encode",
    *(f"pp{count}" for count in PROMPTS),
    *(f"tg{STEPS}@{pos}" for pos in POSITIONS),
    f"tg{FEW_STEPS}@0",
    "answer",
)
"""The row `answer`: a picture and 16 tokens of prompt, 64 decoded tokens."""
CONTEXT = 2304
QUIET_S = 0.3
"""Seconds to wait before the next worker, since thread pools keep spinning after their work."""


class Engine(Protocol):
    """What a worker can time; every call returns seconds."""

    def encode(self) -> float: ...
    def prefill(self, count: int) -> float: ...
    def generate(self, pos: int, steps: int) -> float: ...
    def answer(self) -> float: ...


@dataclass(frozen=True)
class Task:
    """The arguments of a worker."""

    config: dict[str, Any]
    folder: Path
    """The worker's cache folder, for models that take long to build."""
    threads: int
    settings: dict[str, str]

    @classmethod
    def read(cls) -> Task:
        keep_stdout()
        config, folder, threads, settings = sys.argv[1:]
        Path(folder).mkdir(parents=True, exist_ok=True)
        loaded = json.loads(Path(config).read_text("utf-8"))
        return cls(loaded, Path(folder), int(threads), json.loads(settings))

    def build(self, name: str, write: Callable[[], object]) -> None:
        """Write a model unless it is complete; its memory is not that of running it."""
        done = self.folder / f"{name}.built"
        if not done.exists():
            write()
            done.touch()
            forget_peak()

    @property
    def patches(self) -> int:
        return (self.config["image_size"] // self.config["patch_size"]) ** 2


def rows_of(engine: Engine) -> dict[str, Callable[[], float]]:
    """The functions that run the rows."""
    return {
        "encode": engine.encode,
        **{f"pp{count}": partial(engine.prefill, count) for count in PROMPTS},
        **{f"tg{STEPS}@{pos}": partial(engine.generate, pos, STEPS) for pos in POSITIONS},
        f"tg{FEW_STEPS}@0": partial(engine.generate, 0, FEW_STEPS),
        "answer": engine.answer,
    }


def serve(about: Mapping[str, Any], rows: Mapping[str, Callable[[], float]]) -> None:
    """Run the requested rows. A row runs once before its first sample as warm-up."""
    warm: set[str] = set()
    tell({"about": dict(about), "rows": [name for name in ROWS if name in rows]})
    for line in sys.stdin:
        name = line.strip()
        if name not in warm:
            rows[name]()
            warm.add(name)
        seconds = rows[name]()
        time.sleep(QUIET_S)
        tell({"seconds": seconds})


def forget_peak() -> None:
    """Let the kernel count the peak memory of this process anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def require_memory(needed: float, what: str) -> None:
    """End a worker before the kernel ends another process.

    Args:
        needed: bytes.
    """
    if needed > (free := free_memory()):
        raise SystemExit(f"{what} takes about {needed / 1e9:.0f} GB, {free / 1e9:.0f} are free")


def free_memory() -> int:
    """Bytes that new processes can have without swapping (Linux)."""
    text = Path("/proc/meminfo").read_text("ascii")
    (line,) = (line for line in text.splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def tell(value: Mapping[str, Any]) -> None:
    print(json.dumps(value), file=_out[0], flush=True)


def keep_stdout() -> None:
    """Redirect standard output, since libraries print to it; only `tell` reaches the parent."""
    _out.append(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)


_out: list[TextIO] = []
