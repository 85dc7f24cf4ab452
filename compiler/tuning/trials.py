"""The log of a work folder: every measured candidate, so that a killed run loses none."""

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
    """A candidate: the ratio of its time to the default's, or the reason of its failure."""

    choices: Mapping[str, int]
    ratio: float | None
    seconds: float | None
    failure: str = ""


class TrialLog:
    """Trials by task hash, for one device; those of another device or version are ignored."""

    def __init__(self, path: Path, device: str) -> None:
        self.path, self._device = path, device
        self.trials: dict[str, list[Trial]] = {}
        self.refused = 0
        for line in read_lines(path) if path.exists() else ():
            self._take(line)

    def of(self, task: str) -> list[Trial]:
        return self.trials.setdefault(task, [])

    def add(self, task: str, trial: Trial) -> None:
        """Write a trial to the disk before returning. Raises DeviceError if the disk is full."""
        header = {"format": FORMAT, "version": VERSION, "device": self._device, "task": task}
        text = json.dumps({**header, **vars(trial), "choices": dict(trial.choices)})
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
    """Parse a line: None if it is not a trial, () for one of another device."""
    try:
        data = json.loads(text)
        if data["format"] != FORMAT or data["version"] != VERSION:
            return None
        if data["device"] != device:
            return ()
        choices = {str(name): int(value) for name, value in data["choices"].items()}
        ratio, seconds = _positive(data["ratio"]), _positive(data["seconds"])
        if (ratio is None) != (seconds is None):
            return None
        return str(data["task"]), Trial(choices, ratio, seconds, str(data["failure"]))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _positive(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"not a positive number: {value}")
    return number


def reasons(trials: Iterator[Trial] | list[Trial]) -> str:
    """The most frequent failures with their counts: "12 x runner: SIGILL, 3 x builder: ..."."""
    counts = Counter(trial.failure for trial in trials if trial.failure)
    return ", ".join(f"{count} x {reason}" for reason, count in counts.most_common(6))
