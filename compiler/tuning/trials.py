"""The journal of a work folder: every candidate that was measured, so that no kill loses one."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..records.lines import Line, append_line, read_lines

FORMAT, VERSION = "handglass-trial", 1


@dataclass(frozen=True)
class Trial:
    """A candidate: its time over the default's, or why it has none."""

    choices: Mapping[str, int]
    ratio: float | None
    seconds: float | None
    failure: str = ""


class TrialLog:
    """Trials by task hash, for one device; those of another device or version are passed over."""

    def __init__(self, path: Path, device: str) -> None:
        self.path, self._device = path, device
        self.trials: dict[str, list[Trial]] = {}
        self.refused = 0
        for line in read_lines(path) if path.exists() else ():
            self._take(line)

    def of(self, task: str) -> list[Trial]:
        return self.trials.setdefault(task, [])

    def add(self, task: str, trial: Trial) -> None:
        """Kept on the disk before this returns. DeviceError where the disk is full."""
        told = {"format": FORMAT, "version": VERSION, "device": self._device, "task": task}
        text = json.dumps({**told, **vars(trial), "choices": dict(trial.choices)})
        append_line(self.path, text)
        self.of(task).append(trial)

    def _take(self, line: Any) -> None:
        found = _parse(line.text, self._device) if isinstance(line, Line) else None
        if found is None:
            self.refused += 1
        elif found:
            task, trial = found
            self.of(task).append(trial)


def _parse(text: str, device: str) -> tuple[str, Trial] | tuple[()] | None:
    """None for what is no trial, () for one of another device."""
    try:
        told = json.loads(text)
        if told["format"] != FORMAT or told["version"] != VERSION:
            return None
        if told["device"] != device:
            return ()
        choices = {str(name): int(value) for name, value in told["choices"].items()}
        ratio, seconds = _positive(told["ratio"]), _positive(told["seconds"])
        if (ratio is None) != (seconds is None):
            return None
        return str(told["task"]), Trial(choices, ratio, seconds, str(told["failure"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _positive(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"not a time: {value}")
    return number


def reasons(trials: Iterator[Trial] | list[Trial]) -> str:
    """A histogram of failures in words: "12 x runner: SIGILL, 3 x builder: ..."."""
    counts = Counter(trial.failure for trial in trials if trial.failure)
    return ", ".join(f"{count} x {reason}" for reason, count in counts.most_common(6))
