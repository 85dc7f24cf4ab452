"""What stands behind a target: what ran on it or for it, where, when, and by which test.

Nobody types it. Tests and benchmarks write it (evidence_writing.py) to evidence/NAME.json, one file
per target, which is part of the package; here it is read, strictly: a list of objects whose keys
are the fields of `Entry`. A target without a file was never run. The code of `host` belongs to the
preset that is the same code, or has a file of the name of its tuning records.

What was done before there were such files is entered from docs/diary.md: `by` says so.
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

FOLDER = Path(str(files("handglass.targets"))) / "evidence"
LARGEST, MOST = 1 << 16, 64
"""Bytes of a file, and entries in it."""
DIARY = "from the diary"
NAME = "[a-z0-9][a-z0-9+._-]{0,99}"


@dataclass(frozen=True)
class Entry:
    """One thing that was done with a target's code and gave the right results."""

    what: str
    """In words: "answers of the demo model", "kernels"."""
    by: str
    """The test or the benchmark: file::test, or file; DIARY where it was done before."""
    on: str
    """The CPU, or the GPU and its driver, as the machine told it."""
    emulator: str | None
    """What stood for the target's CPU there, and its version."""
    emulated_instructions: bool
    """Whether special instructions were replaced by plain C or plain arithmetic."""
    timed: bool
    """Whether it was a measurement of speed."""
    date: str  # 2026-11-29
    revision: str | None
    """Of the source, "-dirty" where it had changes; None where it was not known."""

    @property
    def key(self) -> tuple[str, ...]:
        """A later entry with the same replaces it."""
        return (self.what, self.by, self.on, self.emulator or "", str(self.timed))

    def __str__(self) -> str:
        where = f"{self.emulator} on {self.on}" if self.emulator else self.on
        instead = ", special instructions in plain C" if self.emulated_instructions else ""
        done = "timed: " if self.timed else ""
        return f"{done}{self.what}; {where}{instead}; {self.date}, {self.by}"


@dataclass(frozen=True)
class Evidence:
    """All of one target; nothing: it was never run."""

    entries: tuple[Entry, ...] = ()

    @property
    def timed(self) -> bool:
        return any(entry.timed for entry in self.entries)

    def __str__(self) -> str:
        """In one line whether it ran, and whether anybody knows how fast it is."""
        timed = "timed on hardware" if self.timed else "not timed on hardware"
        if not self.entries:
            return f"never run; {timed}"
        if all(entry.emulated_instructions for entry in self.entries):
            return f"ran with its special instructions in plain C only; {timed}"
        if all(entry.emulator for entry in self.entries):
            return f"ran under emulation only; {timed}"
        return f"ran; {timed}"


def read_evidence(name: str, folder: Path = FOLDER) -> Evidence:
    """Of the target with this name; InputError in words where the file is none of ours."""
    file = folder / f"{name}.json"
    if not re.fullmatch(NAME, name) or not file.is_file():
        return Evidence()
    with file.open("rb") as opened:
        text = opened.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise InputError(f"{file}: larger than {LARGEST} bytes")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not valid JSON: {error!s:.120}") from error
    return parse_evidence(data, str(file))


def parse_evidence(data: Any, where: str) -> Evidence:
    """From the contents of a file; InputError names the entry and what is wrong with it."""
    if not isinstance(data, list) or not 1 <= len(data) <= MOST:
        raise InputError(f"{where}: must be a list of 1 to {MOST} entries")
    entries = tuple(
        parse_dataclass(Entry, item, f"{where}: entry {number}")
        for number, item in enumerate(data, 1)
    )
    for number, entry in enumerate(entries, 1):
        check_entry(entry, f"{where}: entry {number}")
    if len({entry.key for entry in entries}) != len(entries):
        raise InputError(f"{where}: two entries say the same; the later one alone counts")
    return Evidence(entries)


def check_entry(entry: Entry, where: str) -> None:
    """What the types cannot say."""
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
        "revision must be that of git, 7 to 40 hexadecimal digits, or null",
        e.revision is None or re.fullmatch("[0-9a-f]{7,40}(-dirty)?", e.revision) is not None,
    )
    yield (
        "what runs in an emulator or in plain C tells no time: timed must be false",
        not (e.timed and (e.emulator or e.emulated_instructions)),
    )


def _is_text(text: str) -> bool:
    return 0 < len(text) <= 200 and text.isprintable() and text == text.strip()


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
