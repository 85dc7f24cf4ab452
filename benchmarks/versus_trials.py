"""The first round of `versus.py`: which configuration of an engine is the best for which row.

Results are kept in a file per engine and shape of model, written after each configuration: an
interrupted round goes on where it stopped, and a later comparison repeats nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from math import inf
from pathlib import Path

from versus_peers import Configuration, Peer, PeerError
from versus_process import BUSY, Worker

LONG_S = 4.0
"""Seconds of a row that is not repeated in a first round."""
TRIED = ("encode", "pp64", "pp512", "tg64@0", "tg64@512")
BUSY_ROWS = tuple(BUSY + row for row in ("encode", "pp64", "tg16@0"))
ALIKE = {"tg64@2048": ("tg64@512",), "answer": ("encode", "pp64", "tg64@0")}
"""Rows that are not tried: their seconds are judged by the sum of others."""
GAIN = 1.03
"""A further process is worth its memory if it is faster by this on some row."""
MOST = 3
"""Processes of one engine that are awake at once."""

Seconds = Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """What a configuration took; `failed` says why it did not run."""

    configuration: Configuration
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    failed: str = ""


class Trials:
    """The trials of one engine, kept in a file: a line for each time that a configuration ran."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[Configuration, Trial] = {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else []:
            found = json.loads(line)
            self._add(Trial(**{**found, "configuration": Configuration(**found["configuration"])}))

    @property
    def all(self) -> list[Trial]:
        return list(self._found.values())

    def ran(self) -> list[Trial]:
        return [trial for trial in self.all if not trial.failed]

    def complete(
        self, peer: Peer, start: Callable[[Configuration], Worker], rows: Sequence[str]
    ) -> None:
        """Run what is not in the file yet: configurations that have not run, and rows of others."""
        for configuration in peer.tried:
            known = self._found.get(configuration, Trial(configuration))
            missing = [row for row in rows if row not in known.seconds]
            if missing:
                trial = attempt(configuration, start, missing)
                self._add(trial)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(trial)) + "\n")

    def _add(self, trial: Trial) -> None:
        known = self._found.get(trial.configuration, trial)
        peak = max(known.peak_bytes, trial.peak_bytes)
        seconds = known.seconds | trial.seconds
        self._found[trial.configuration] = replace(trial, seconds=seconds, peak_bytes=peak)


def attempt(
    configuration: Configuration, start: Callable[[Configuration], Worker], rows: Sequence[str]
) -> Trial:
    """Run the rows in a process of their own; a row that it does not have takes forever."""
    try:
        worker = start(configuration)
    except PeerError as error:
        return Trial(configuration, failed=str(error))
    try:
        seconds = {row: least(worker, row) if worker.can(row) else inf for row in rows}
        return Trial(configuration, seconds, worker.peak_bytes())
    except PeerError as error:
        return Trial(configuration, failed=str(error))
    finally:
        worker.close()


def least(worker: Worker, row: str) -> float:
    """The least seconds of a row; a long one, and one beside a busy process, runs once."""
    found = worker.seconds(row)
    if found < LONG_S and not row.startswith(BUSY):
        found = min(found, worker.seconds(row))
    return found


def candidates(trials: Iterable[Trial]) -> Iterator[Configuration]:
    """Every vision and decoder that ran in a process of the same kind."""
    ran = [trial.configuration for trial in trials if not trial.failed]
    for process in dict.fromkeys(one.process for one in ran):
        same = [one for one in ran if one.process == process]
        visions = dict.fromkeys(one.vision for one in same)
        decoders = dict.fromkeys(one.decoder for one in same)
        for vision, decoder in product(visions, decoders):
            yield Configuration(process, vision, decoder)


def expected(trials: Sequence[Trial], configuration: Configuration, row: str) -> float:
    """Seconds of a row by the trials of the same vision tower or decoder; inf if there are none."""
    return sum(_measured(trials, configuration, basis) for basis in ALIKE.get(row, (row,)))


def _measured(trials: Sequence[Trial], configuration: Configuration, row: str) -> float:
    side = "vision" if row.removeprefix(BUSY) == "encode" else "decoder"
    same = [
        trial.seconds[row]
        for trial in trials
        if row in trial.seconds
        and trial.configuration.process == configuration.process
        and getattr(trial.configuration, side) == getattr(configuration, side)
    ]
    return min(same, default=inf)


def fitting(
    trials: Mapping[str, Sequence[Trial]], rows: Sequence[str], free: float
) -> dict[str, dict[str, Configuration]]:
    """By engine what to enter for each row, with as many processes as fit into `free` bytes."""
    for most in range(MOST, 0, -1):
        chosen = {name: choose(tried, rows, most) for name, tried in trials.items()}
        needed = sum(
            peak_of(trials[name], one)
            for name, by_row in chosen.items()
            for one in set(by_row.values())
        )
        if needed <= free:
            break
    return chosen


def peak_of(trials: Sequence[Trial], configuration: Configuration) -> int:
    """The most that a process with the same vision tower or the same decoder has held."""
    one = configuration
    return max(
        trial.peak_bytes
        for trial in trials
        if trial.configuration.process == one.process
        and (trial.configuration.vision == one.vision or trial.configuration.decoder == one.decoder)
    )


def choose(
    trials: Sequence[Trial], rows: Sequence[str], most: int = MOST
) -> dict[str, Configuration]:
    """The configuration to enter for each row, out of few: one process each.

    The first is the best on the whole, by the product of its seconds over the least ones. Another
    is added while it gains `GAIN` on some row, the largest gain first.
    """
    table = {one: {row: expected(trials, one, row) for row in rows} for one in candidates(trials)}
    least_of = {row: min((seconds[row] for seconds in table.values()), default=inf) for row in rows}
    rows = [row for row in rows if least_of[row] < inf]
    if not rows:
        return {}
    chosen = [min(table, key=lambda one: _loss(table[one], least_of, rows))]
    while len(chosen) < most:
        now = {row: min(table[one][row] for one in chosen) for row in rows}
        best = max(table, key=lambda one: _gain(table[one], now, rows))
        if _gain(table[best], now, rows) < GAIN:
            break
        chosen.append(best)
    return {row: min(chosen, key=lambda one: table[one][row]) for row in rows}


def _loss(seconds: Seconds, least_of: Seconds, rows: Sequence[str]) -> float:
    loss = 1.0
    for row in rows:
        loss *= seconds[row] / least_of[row]
    return loss


def _gain(seconds: Seconds, now: Seconds, rows: Sequence[str]) -> float:
    return max(now[row] / seconds[row] if seconds[row] else 1.0 for row in rows)
