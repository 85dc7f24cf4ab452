"""A file of records, one per line: `handglass tune` appends to it, `handglass compile` reads it.

An invalid line is skipped and reported, without affecting others (lines.py, record.py, allowed.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from handglass.errors import HandglassError
from handglass.runtime.system.printable import printable

from .allowed import check_allowed
from .lines import Line, Refused, append_line, read_lines
from .record import Measured, Record


class Journal(NamedTuple):
    """The contents of a file."""

    records: list[Record]
    """Records in file order."""
    refused: list[Refused]


def append(path: Path, record: Record) -> None:
    """Append a record.

    Raises InputError for a record that would be refused on reading, DeviceError if it cannot be
    written; the file is then unchanged.
    """
    check_allowed(record)
    append_line(path, record.text())


def read(path: Path) -> Journal:
    """Read the best records of a file. Raises InputError only if there is no such file."""
    records, refused = read_all(path)
    return Journal(best(records), refused)


def read_all(path: Path) -> Journal:
    """Read every record, including those replaced by better ones."""
    records: list[Record] = []
    refused: list[Refused] = []
    for line in read_lines(path):
        found = _record(line)
        if isinstance(found, Refused):
            refused.append(found)
        else:
            records.append(found)
    return Journal(records, refused)


def _record(line: Line | Refused) -> Record | Refused:
    if isinstance(line, Refused):
        return line
    try:
        record = Record.parse(line.text)
        check_allowed(record)
    except HandglassError as error:
        return Refused(line.number, printable(error))
    return record


def best(records: list[Record]) -> list[Record]:
    """One record per task, device and measure: the fastest if comparable, else the last."""
    found: dict[object, Record] = {}
    for record in records:
        key = (record.target, record.task, record.device, record.measure)
        if key not in found or not is_slower(record, found[key]):
            found.pop(key, None)
            found[key] = record
    return list(found.values())


def is_slower(record: Record, other: Record) -> bool:
    """Whether `record` is slower at the same lengths."""
    return _lengths(record) == _lengths(other) and record.tuned_seconds > other.tuned_seconds


def _lengths(record: Record) -> set[tuple[tuple[str, int], ...]]:
    return {_key(measured) for measured in record.lengths}


def _key(measured: Measured) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(measured.lengths.items()))
