"""Evidence for a target: what ran on it or for it, where, when, and in which test.

Tests and benchmarks write evidence (evidence_writing.py) to evidence/NAME.json, one file per
target, as part of the package; it is never written by hand. This module reads it strictly: a list
of objects whose keys are the fields of `Entry`. A target without a file was never run. The evidence
of `host` is that of the preset with the same code, or a file with the name of its tuning records.

Results from before these files existed were entered from docs/diary.md and have `by` set to DIARY.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

from handglass.errors import InputError
from handglass.runtime.system.json_dataclass import parse_dataclass
from handglass.runtime.system.regular_file import read_regular

FOLDER = Path(str(files("handglass.targets"))) / "evidence"
LARGEST, MOST = 1 << 16, 64
"""Largest file in bytes, and most entries in a file."""
DIARY = "from the diary"
NAME = "[a-z0-9][a-z0-9+._-]{0,99}"


@dataclass(frozen=True)
class Entry:
    """One successful run of a target's code with correct results."""

    what: str
    """Description of what ran: "answers of the demo model", "kernels"."""
    by: str
    """The test or benchmark: file::test, or file; DIARY for results from the diary."""
    on: str
    """The CPU, or the GPU and its driver, as reported by the machine."""
    emulator: str | None
    """The emulator of the target's CPU and its version; None without emulation."""
    emulated_instructions: bool
    """Whether special instructions were replaced by plain C or plain arithmetic."""
    timed: bool
    """Whether speed was measured."""
    date: str  # 2026-11-29
    revision: str | None
    """Git revision of the source, with "-dirty" if it had changes; None if unknown."""

    @property
    def key(self) -> tuple[str, ...]:
        """Identity of the entry; a later entry with the same key replaces it."""
        return (self.what, self.by, self.on, self.emulator or "", str(self.timed))

    def __str__(self) -> str:
        where = f"{self.emulator} on {self.on}" if self.emulator else self.on
        instead = (
            ", with its special instructions emulated in C" if self.emulated_instructions else ""
        )
        done = "timed: " if self.timed else ""
        return f"{done}{self.what}; {where}{instead}; {self.date}, {self.by}"


@dataclass(frozen=True)
class Evidence:
    """All evidence for one target; no entries if it was never run."""

    entries: tuple[Entry, ...] = ()

    @property
    def timed(self) -> bool:
        return any(entry.timed for entry in self.entries)

    def __str__(self) -> str:
        """One line: whether the target's code ran, and whether it was timed."""
        timed = "timed on hardware" if self.timed else "not timed on hardware"
        if not self.entries:
            return f"never run; {timed}"
        if all(entry.emulated_instructions for entry in self.entries):
            return f"ran only with its special instructions emulated in C; {timed}"
        if all(entry.emulator for entry in self.entries):
            return f"ran under emulation only; {timed}"
        return f"ran; {timed}"


def read_evidence(name: str, folder: Path = FOLDER) -> Evidence:
    """The evidence for the target `name`. Raises InputError for an invalid file."""
    file = folder / f"{name}.json"
    if not re.fullmatch(NAME, name) or not file.is_file():
        return Evidence()
    try:
        data = json.loads(read_regular(file, LARGEST))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not valid JSON: {error!s:.120}") from error
    return parse_evidence(data, str(file))


def parse_evidence(data: Any, where: str) -> Evidence:
    """Parse the contents of a file. Raises InputError with the invalid entry and the reason."""
    if not isinstance(data, list) or not 1 <= len(data) <= MOST:
        raise InputError(f"{where}: must be a list of 1 to {MOST} entries")
    entries = tuple(
        parse_dataclass(Entry, item, f"{where}: entry {number}")
        for number, item in enumerate(data, 1)
    )
    for number, entry in enumerate(entries, 1):
        check_entry(entry, f"{where}: entry {number}")
    if len({entry.key for entry in entries}) != len(entries):
        raise InputError(f"{where}: two entries have the same key; keep only the later one")
    return Evidence(entries)


def check_entry(entry: Entry, where: str) -> None:
    """Check the constraints that the field types do not express. Raises InputError."""
    for text, holds in _conditions(entry):
        if not holds:
            raise InputError(f"{where}: {text}")


def _conditions(e: Entry) -> Iterator[tuple[str, bool]]:
    for name, text in (("what", e.what), ("by", e.by), ("on", e.on)):
        yield f"{name} must be 1 to 200 printable characters", _is_text(text)
    yield "emulator must be 1 to 200 printable characters, or null", _is_text(e.emulator or "-")
    yield (
        f"by must be test_FILE.py::TEST, FILE.py or '{DIARY}', without folders",
        e.by == DIARY or re.fullmatch(r"\w+\.py(::\w+)?", e.by, re.ASCII) is not None,
    )
    yield "date must be a day like 2026-11-29", _is_day(e.date)
    yield (
        "revision must be a git revision of 7 to 40 hexadecimal digits, or null",
        e.revision is None or re.fullmatch("[0-9a-f]{7,40}(-dirty)?", e.revision) is not None,
    )
    yield (
        "timed must be false for a run in an emulator, or with instructions emulated in C",
        not (e.timed and (e.emulator or e.emulated_instructions)),
    )


def _is_text(text: str) -> bool:
    return 0 < len(text) <= 200 and text.isprintable() and text == text.strip()


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
