"""The worker side of `versus.py`: a process that runs one row on request and otherwise sleeps.

Started as `python versus_NAME.py CONFIG FOLDER THREADS [WORD]`. When it is ready, it writes one
line: {"about": {...}, "rows": [...]}. Then, for each row named on standard input, it writes one
line with the seconds the row took. Between rows it blocks in a read and uses no CPU time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

ROWS = ("encode", "pp64", "pp512", "tg64@0", "tg64@512", "answer")
"""The row `answer`: a picture and 16 tokens of prompt, 64 decoded tokens."""
QUESTION_TOKENS, ANSWER_TOKENS, STEPS = 16, 64, 64
CONTEXT = 1024
QUIET_S = 0.3
"""Seconds to wait before the next worker, since thread pools keep spinning after their work."""


@dataclass(frozen=True)
class Task:
    """The arguments of a worker."""

    config: dict[str, Any]
    folder: Path
    """The worker's cache folder, for models that take long to build."""
    threads: int
    words: tuple[str, ...]

    @classmethod
    def read(cls) -> Task:
        keep_stdout()
        config, folder, threads, *words = sys.argv[1:]
        Path(folder).mkdir(parents=True, exist_ok=True)
        loaded = json.loads(Path(config).read_text("utf-8"))
        return cls(loaded, Path(folder), int(threads), tuple(words))

    @property
    def built(self) -> Path:
        """A marker that exists once the models in `folder` are complete."""
        return self.folder / "built"

    @property
    def patches(self) -> int:
        return (self.config["image_size"] // self.config["patch_size"]) ** 2


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


def tell(value: Mapping[str, Any]) -> None:
    print(json.dumps(value), file=_out[0], flush=True)


def keep_stdout() -> None:
    """Redirect standard output, since libraries print to it; only `tell` reaches the parent."""
    _out.append(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)


_out: list[TextIO] = []
