"""The sources of records: explicitly named files, the user's, and those shipped with handglass.

The user's records have one journal per `Target.records_key`, the shipped ones for `host` one per
kind of processor as well, so that they apply to this kind only. Named files take precedence over
the user's, and the user's over the shipped ones. Within each source, records of this device precede
those of others, and newer records precede older ones. Records judged by counted instructions come
after all that were timed, whatever their source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import handglass.schedules
from handglass.errors import InputError
from handglass.runtime.devices.kinds import CPU
from handglass.runtime.system.hardware import cpu_kind
from handglass.runtime.system.user_cache import data_folder
from handglass.targets.target import Target, host_name

from .journal import read
from .lines import Refused
from .record import SECONDS, Device, Record

NAMED, OWN, SHIPPED = "named", "own", "shipped"
OF_KIND = "@"
"""In the name of a shipped file, between the target's key and the kind of processor."""
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


def shipped_file(target: Target, kind: str | None = None) -> Path:
    """The shipped journal for a target; it may not exist.

    `host` generates code for an instruction level, which other processors have too, so its file
    names the `kind` of processor (`cpu_kind`; None: this machine's). Others name the device.
    """
    if target.name != host_name(CPU):
        return SHIPPED_FOLDER / f"{target.records_key}.jsonl"
    kind = cpu_kind() if kind is None else kind
    return SHIPPED_FOLDER / f"{target.records_key}{OF_KIND}{kind or 'unknown'}.jsonl"


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
    kept = ((own_file(store.key), OWN), (shipped_file(target), SHIPPED))
    for path, source in kept if stored else ():
        try:
            if path.exists():
                _add(store, path, source, _gpu(target, here) if source == SHIPPED else None)
        except (InputError, OSError) as error:
            store.refused.append((path, Refused(0, str(error))))
    for candidates in store.by_task.values():
        candidates.sort(key=lambda s: s.record.date, reverse=True)
        candidates.sort(key=lambda s: (_ORDER[s.source], _distance(s.record.device, here)))
        candidates.sort(key=lambda s: s.record.measure != SECONDS)
    return store


def _gpu(target: Target, here: Device | None) -> str | None:
    """The model that shipped records must be from; None for a CPU, whose kind the file names."""
    if target.kind == CPU:
        return None
    return here.model if here else ""


_ORDER = {NAMED: 0, OWN: 1, SHIPPED: 2}


def _add(store: Store, path: Path, source: str, model: str | None = None) -> None:
    """Add the records of a file; with `model`, only those of such a device."""
    journal = read(path)
    store.refused += [(path, line) for line in journal.refused]
    for record in journal.records:
        if record.target == store.key and model in (None, record.device.model):
            store.by_task.setdefault(record.task, []).append(Stored(record, source))


def _distance(device: Device, here: Device | None) -> int:
    """0: this device with as many threads; 1: this device, other threads; 2: another device."""
    if here is None or device.model != here.model:
        return 2
    return int(device.threads != here.threads)
