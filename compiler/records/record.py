"""One tuning result as a line that can be shared: `Record`, and its conversion to and from text.

Reading executes nothing and trusts nothing: keys, types and ranges are checked, and the id, which
is the hash of everything else, is recomputed. Rules and choices are checked in allowed.py.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from handglass.errors import InputError, MismatchError
from handglass.runtime.system.json_dataclass import optional, parse_dataclass, plain

FORMAT = "handglass-record"
VERSION = 1
DATE = "%Y-%m-%dT%H:%M:%SZ"
LONGEST = 3600.0
"""Longest plausible time of a call in seconds."""
NOISE = 1.02
"""Largest ratio to the default schedule's time at any length: the noise between two runs."""
MOST_OF_LIMIT = 2.0
"""Largest fraction of a limit that a record may claim.

Data in caches, or a machine that was slower during the probe, can raise it somewhat above 1. Twice
the limit means that a different unit was measured than the kernel uses.
"""


SECONDS, INSTRUCTIONS = MEASURES = ("seconds", "instructions")
"""What a record was judged by: time, or instructions counted by an emulator."""
NANOSECOND = 1e-9
"""The time that stands for an instruction where instructions are counted."""


@dataclass(frozen=True)
class Times:
    """Seconds of one call, over `samples` samples; with INSTRUCTIONS, a nanosecond each."""

    min: float
    median: float
    p90: float
    samples: int


@dataclass(frozen=True)
class Measured:
    """Times of both schedules at the same lengths, by their names in the function: {"s": 64}."""

    lengths: Mapping[str, int]
    default: Times
    tuned: Times


@dataclass(frozen=True)
class Device:
    """The device on which a record was measured."""

    model: str  # as in /proc/cpuinfo
    architecture: str
    cores: int
    threads: int


@dataclass(frozen=True)
class Versions:
    handglass: str
    tvm: str
    tvm_ffi: str


@dataclass(frozen=True)
class Verified:
    """Deviation of the tuned kernel's results from the default's."""

    snr_db: float | None  # None if equal
    max_error: float


@dataclass(frozen=True)
class Record:
    """The choices of `rule` for the function whose hash is `task`, on `target`."""

    target: str  # Target.records_key
    task: str  # 64 hexadecimal digits, see task_hash.py
    about: str  # readable description of the function: name, patterns, arguments
    rule: str
    choices: Mapping[str, int]
    lengths: tuple[Measured, ...]
    share: float  # of the step's time, when it was tuned
    limit_fraction: float | None  # least time that the hardware allows / measured time
    device: Device
    date: str  # UTC, 2026-11-24T20:15:00Z
    versions: Versions
    verified: Verified
    measure: str = optional(lambda: SECONDS)

    @cached_property
    def id(self) -> str:
        """sha256 of everything else; identifies the record."""
        return hashlib.sha256(_canonical(self._body()).encode()).hexdigest()

    @property
    def tuned_seconds(self) -> float:
        """Sum of the medians over all lengths, or instructions in nanoseconds."""
        return sum(measured.tuned.median for measured in self.lengths)

    @property
    def gain(self) -> float:
        """Speedup over the default schedule, over all lengths."""
        return sum(measured.default.median for measured in self.lengths) / self.tuned_seconds

    def text(self) -> str:
        """The line without newline. Raises InputError if `parse` would refuse it."""
        check(self._as_read())
        return _canonical({**self._body(), "id": self.id})

    @classmethod
    def parse(cls, text: str) -> Record:
        """Parse a line. Raises InputError or MismatchError with the reason."""
        data = _load(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(f"not a record: format is not {FORMAT!r}")
        version = data.get("version")
        if type(version) is not int or version != VERSION:
            raise MismatchError(f"record version {version!r:.40}, this handglass reads {VERSION}")
        id = data.get("id")
        body = {key: data[key] for key in data if key not in ("format", "version", "id")}
        record = parse_dataclass(cls, body, "record")
        check(record)
        if id != record.id:
            raise MismatchError("damaged or changed: id is not the hash of the contents")
        return record

    def _body(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, **plain(self._as_read())}

    def _as_read(self) -> Record:
        """The record as `parse` reads it: integers become floats, wrong types an InputError."""
        return parse_dataclass(Record, json.loads(json.dumps(plain(self))), "record")


def check(record: Record) -> None:
    """Check what the field types do not express. Raises InputError with the first fault."""
    for text, holds in _conditions(record):
        if not holds:
            raise InputError(f"record: {text}")
    for measured in record.lengths:
        _check_measured(measured)


def _conditions(r: Record) -> Iterator[tuple[str, bool]]:
    device, shown = r.device, (r.about, r.device.model)
    known = ", ".join(MEASURES)
    versions = (r.versions.handglass, r.versions.tvm, r.versions.tvm_ffi)
    yield "target is not a valid target name", _fits("[a-z0-9][a-z0-9+._-]{0,99}", r.target)
    yield "task must be 64 hexadecimal digits", _fits("[0-9a-f]{64}", r.task)
    yield "rule is not a valid rule name", _fits("[a-z0-9-]{1,40}", r.rule)
    yield "about and device.model must be printable text", all(map(_is_printable, shown))
    yield "about or device.model is too long", len(r.about) <= 4000 and len(device.model) <= 200
    yield "choices must have 1 to 40 entries", 0 < len(r.choices) <= 40
    yield "a choice name is invalid", all(_fits("[a-z0-9_.]{1,40}", n) for n in r.choices)
    yield "choices must be from 0 to 65536", all(0 <= v <= 1 << 16 for v in r.choices.values())
    yield f"measure must be one of {known}", r.measure in MEASURES
    yield "lengths must have 1 to 16 entries", 0 < len(r.lengths) <= 16
    distinct = {tuple(sorted(m.lengths.items())) for m in r.lengths}
    yield "lengths has a duplicate entry", len(distinct) == len(r.lengths)
    yield "share must be from 0 to 1", 0 <= r.share <= 1
    yield limit_fault(r.limit_fraction) or "limit_fraction", not limit_fault(r.limit_fraction)
    yield "device.architecture is invalid", _fits("[a-z0-9_]{1,20}", device.architecture)
    counts = (device.cores, device.threads)
    yield "device.cores and threads must be from 1 to 4096", all(1 <= n <= 4096 for n in counts)
    yield "date must look like 2026-11-24T20:15:00Z", _is_date(r.date)
    yield "versions must be version numbers", all(_fits("[0-9a-z.+-]{1,40}", v) for v in versions)
    snr = r.verified.snr_db
    yield "verified.snr_db must be finite", snr is None or math.isfinite(snr)
    yield "verified.max_error must be finite and >= 0", 0 <= r.verified.max_error < math.inf


def limit_fault(fraction: float | None) -> str:
    """Why this fraction of a limit is implausible; "" if it is plausible or None."""
    if fraction is None or 0 < fraction <= MOST_OF_LIMIT:
        return ""
    if fraction > MOST_OF_LIMIT:
        return (
            f"limit_fraction {fraction:.3g} is above {MOST_OF_LIMIT:g}: a kernel cannot exceed the "
            "limit of its unit that far, so another unit was measured; use null if unknown"
        )
    return (
        f"limit_fraction {fraction:.3g} is not above 0: it is the least possible time divided by "
        "the measured time, both positive; use null if unknown"
    )


def _check_measured(measured: Measured) -> None:
    names, values = measured.lengths.keys(), measured.lengths.values()
    if len(names) > 8 or not all(_fits("[A-Za-z_][A-Za-z0-9_]{0,39}", name) for name in names):
        raise InputError("record: lengths: a length name is invalid, or there are more than 8")
    if not all(0 <= value < 1 << 31 for value in values):
        raise InputError("record: lengths: a length is negative or too large")
    for t in (measured.default, measured.tuned):
        if not 0 < t.min <= t.median <= t.p90 <= LONGEST or t.samples < 1:
            raise InputError(
                f"record: times must be 0 < min <= median <= p90 <= {LONGEST:g}, samples >= 1"
            )
    if measured.tuned.median > measured.default.median * NOISE:
        at = ", ".join(f"{name} = {value}" for name, value in measured.lengths.items())
        raise InputError(f"record: slower than the default schedule at {at or 'its lengths'}")


def _load(text: str) -> Any:
    """Parse JSON without duplicate keys, NaN and infinities."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error!s:.120}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _canonical(value: Any) -> str:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _fits(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text, re.ASCII) is not None


def _is_printable(text: str) -> bool:
    """Whether text is safe on terminals: no control characters, none that reorder text."""
    return bool(text) and text.isprintable()


def _is_date(text: str) -> bool:
    try:
        return datetime.strptime(text, DATE).strftime(DATE) == text
    except ValueError:
        return False
