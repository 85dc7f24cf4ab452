"""The sources of records: explicitly named files, the user's, and those shipped with handglass.

The latter two have one journal per `Target.records_key`. Named files take precedence over the
user's, and the user's over the shipped ones. Within each source, records of this device precede
those of others, and newer records precede older ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import handglass.schedules
from handglass.errors import InputError
from handglass.runtime.system.user_cache import data_folder
from handglass.targets.target import Target

from .journal import read
from .lines import Refused
from .record import Device, Record

NAMED, OWN, SHIPPED = "named", "own", "shipped"
SHIPPED_FOLDER = Path(handglass.schedules.__file__).parent / "records"


@dataclass(frozen=True)
class Stored:
    """A record and its source: NAMED, OWN or SHIPPED."""

    record: Record
    source: str


@dataclass
class Store:
    """All records for a target by task, in the order in which they are tried."""

    key: str
    by_task: dict[str, list[Stored]] = field(default_factory=dict)
    refused: list[tuple[Path, Refused]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Stored]:
        for stored in self.by_task.values():
            yield from stored


def user_folder() -> Path:
    """The folder where `handglass tune` stores records; it may not exist."""
    return data_folder("records")


def own_file(key: str) -> Path:
    """The user's journal for a target; it may not exist."""
    return user_folder() / f"{key}.jsonl"


def shipped_file(key: str) -> Path:
    """The shipped journal for a target; it may not exist."""
    return SHIPPED_FOLDER / f"{key}.jsonl"


def open_store(
    target: Target, here: Device | None, named: Sequence[Path] = (), stored: bool = True
) -> Store:
    """Read all records for a target; records for other targets are ignored.

    `here`: the device that compiles. `stored`: also read the user's and the shipped records. Raises
    InputError if a named file cannot be read; faults of other files are in `refused`.
    """
    store = Store(target.records_key)
    for path in named:
        _add(store, path, NAMED)
    kept = ((own_file(store.key), OWN), (shipped_file(store.key), SHIPPED))
    for path, source in kept if stored else ():
        try:
            if path.exists():
                _add(store, path, source)
        except (InputError, OSError) as error:
            store.refused.append((path, Refused(0, str(error))))
    for candidates in store.by_task.values():
        candidates.sort(key=lambda s: s.record.date, reverse=True)
        candidates.sort(key=lambda s: (_ORDER[s.source], _distance(s.record.device, here)))
    return store


_ORDER = {NAMED: 0, OWN: 1, SHIPPED: 2}


def _add(store: Store, path: Path, source: str) -> None:
    journal = read(path)
    store.refused += [(path, line) for line in journal.refused]
    for record in journal.records:
        if record.target == store.key:
            store.by_task.setdefault(record.task, []).append(Stored(record, source))


def _distance(device: Device, here: Device | None) -> int:
    """0: this device with as many threads; 1: this device, other threads; 2: another device."""
    if here is None or device.model != here.model:
        return 2
    return int(device.threads != here.threads)
