"""The worker's end of `versus.py`: a process that runs one row when it is told to, and else waits.

Started as `python versus_NAME.py CONFIG FOLDER THREADS [WORD]`. It writes one line when it is
ready: {"about": {...}, "rows": [...]}. Then, for each row named on standard input, the seconds it
took, as one line. Between two rows it is blocked in a read and uses no processor.
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
"""`answer`: a picture and 16 tokens in, 64 tokens out."""
QUESTION_TOKENS, ANSWER_TOKENS, STEPS = 16, 64, 64
CONTEXT = 1024
QUIET_S = 0.3
"""Thread pools that spin go on for a while after their work; the next worker waits for that."""


@dataclass(frozen=True)
class Task:
    """What a worker was started with."""

    config: dict[str, Any]
    folder: Path
    """Its own, for what it wants to keep: models that take long to build."""
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
        """There when the models in `folder` are whole: building one takes minutes."""
        return self.folder / "built"

    @property
    def patches(self) -> int:
        return (self.config["image_size"] // self.config["patch_size"]) ** 2


def serve(about: Mapping[str, Any], rows: Mapping[str, Callable[[], float]]) -> None:
    """A row is run once before its first sample, so that this one is like the others."""
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
    """Libraries print whatever they like; from here on only `tell` reaches the parent."""
    _out.append(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)


_out: list[TextIO] = []
