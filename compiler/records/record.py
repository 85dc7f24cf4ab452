"""One result of tuning, as a line that may be passed on: `Record`, its text and back.

Reading executes nothing and believes nothing: keys, types and ranges are checked, and the id, which
is the hash of all else, is computed again. Which rules and choices there are is asked elsewhere
(allowed.py).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from handglass.errors import InputError, MismatchError
from handglass.runtime.system.json_dataclass import parse_dataclass

FORMAT = "handglass-record"
VERSION = 1
DATE = "%Y-%m-%dT%H:%M:%SZ"
LONGEST = 3600.0
"""Seconds: no kernel takes an hour."""
NOISE = 1.02
"""How much slower than the default schedule a length may have been: as far apart as two runs of
the same code."""
MOST_OF_LIMIT = 2.0
"""The largest fraction of a limit that a record may claim. Data that stays in the caches and a
machine that was slower while it was probed bring it somewhat above 1; twice the limit means that
another unit was measured than the kernel uses."""


@dataclass(frozen=True)
class Times:
    """Seconds of one call, over so many samples."""

    min: float
    median: float
    p90: float
    samples: int


@dataclass(frozen=True)
class Measured:
    """Both schedules at the same lengths, which are named as in the function: {"s": 64}."""

    lengths: Mapping[str, int]
    default: Times
    tuned: Times


@dataclass(frozen=True)
class Device:
    """Where it was measured."""

    model: str  # as /proc/cpuinfo calls it
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
    """The tuned kernel's results against the default's."""

    snr_db: float | None  # None: equal
    max_error: float


@dataclass(frozen=True)
class Record:
    """The choices of `rule` for the function whose hash is `task`, on `target`."""

    target: str  # Target.records_key
    task: str  # 64 hexadecimal digits, see task_hash.py
    about: str  # the function for people: name, patterns, arguments
    rule: str
    choices: Mapping[str, int]
    lengths: tuple[Measured, ...]
    share: float  # of the step's time, when it was tuned
    limit_fraction: float | None  # least time that the hardware allows over the time it took
    device: Device
    date: str  # UTC, 2026-11-24T20:15:00Z
    versions: Versions
    verified: Verified

    @cached_property
    def id(self) -> str:
        """sha256 of all else; the name of the record."""
        return hashlib.sha256(_canonical(self._body()).encode()).hexdigest()

    @property
    def tuned_seconds(self) -> float:
        """Sum of the medians over all lengths."""
        return sum(measured.tuned.median for measured in self.lengths)

    @property
    def gain(self) -> float:
        """How many times faster than the default schedule, over all lengths."""
        return sum(measured.default.median for measured in self.lengths) / self.tuned_seconds

    def text(self) -> str:
        """The line, without its end. Raises InputError where `parse` would."""
        check(self._as_read())
        return _canonical({**self._body(), "id": self.id})

    @classmethod
    def parse(cls, text: str) -> Record:
        """InputError or MismatchError with the reason in words."""
        data = _load(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(f"not a record of handglass (format is not {FORMAT!r})")
        version = data.get("version")
        if type(version) is not int or version != VERSION:
            raise MismatchError(f"record version {version!r:.40}, this handglass reads {VERSION}")
        told = data.get("id")
        body = {key: data[key] for key in data if key not in ("format", "version", "id")}
        record = parse_dataclass(cls, body, "record")
        check(record)
        if told != record.id:
            raise MismatchError("damaged or changed: its id is not the hash of what it says")
        return record

    def _body(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, **asdict(self._as_read())}

    def _as_read(self) -> Record:
        """Where a float belongs, a whole number is one too; a wrong type is an InputError."""
        return parse_dataclass(Record, json.loads(json.dumps(asdict(self))), "record")


def check(record: Record) -> None:
    """What the types cannot say; InputError names the first thing that is wrong."""
    for text, holds in _conditions(record):
        if not holds:
            raise InputError(f"record: {text}")
    for measured in record.lengths:
        _check_measured(measured)


def _conditions(r: Record) -> Iterator[tuple[str, bool]]:
    device, shown = r.device, (r.about, r.device.model)
    versions = (r.versions.handglass, r.versions.tvm, r.versions.tvm_ffi)
    yield "target is not the name of a target", _fits("[a-z0-9][a-z0-9+._-]{0,99}", r.target)
    yield "task must be 64 hexadecimal digits", _fits("[0-9a-f]{64}", r.task)
    yield "rule is not the name of a rule", _fits("[a-z0-9-]{1,40}", r.rule)
    yield "about and device.model must be printable text", all(map(_is_printable, shown))
    yield "about is too long", len(r.about) <= 4000 and len(device.model) <= 200
    yield "choices must name something", 0 < len(r.choices) <= 40
    yield "the name of a choice is none", all(_fits("[a-z0-9_.]{1,40}", n) for n in r.choices)
    yield "a choice is no small number", all(0 <= v <= 1 << 16 for v in r.choices.values())
    yield "lengths must have 1 to 16 entries", 0 < len(r.lengths) <= 16
    apart = {tuple(sorted(m.lengths.items())) for m in r.lengths}
    yield "lengths has an entry twice", len(apart) == len(r.lengths)
    yield "share must be from 0 to 1", 0 <= r.share <= 1
    yield limit_fault(r.limit_fraction) or "limit_fraction", not limit_fault(r.limit_fraction)
    yield "device.architecture is none", _fits("[a-z0-9_]{1,20}", device.architecture)
    counts = (device.cores, device.threads)
    yield "device.cores and threads must be positive", all(1 <= n <= 4096 for n in counts)
    yield "date must look like 2026-11-24T20:15:00Z", _is_date(r.date)
    yield "versions must be version numbers", all(_fits("[0-9a-z.+-]{1,40}", v) for v in versions)
    snr = r.verified.snr_db
    yield "verified.snr_db must be finite", snr is None or math.isfinite(snr)
    yield "verified.max_error must be 0 or more, finite", 0 <= r.verified.max_error < math.inf


def limit_fault(fraction: float | None) -> str:
    """Why nobody should believe this fraction of a limit; empty where it is plausible or None."""
    if fraction is None or 0 < fraction <= MOST_OF_LIMIT:
        return ""
    if fraction > MOST_OF_LIMIT:
        return (
            f"limit_fraction {fraction:.3g} is above {MOST_OF_LIMIT:g}: no kernel is so much "
            "faster than the unit that it uses, so another was measured; null where it is not known"
        )
    return (
        f"limit_fraction {fraction:.3g} is not above 0: it is the least possible time over the "
        "time taken, both of which are positive; null where it is not known"
    )


def _check_measured(measured: Measured) -> None:
    names, values = measured.lengths.keys(), measured.lengths.values()
    if len(names) > 8 or not all(_fits("[A-Za-z_][A-Za-z0-9_]{0,39}", name) for name in names):
        raise InputError("record: lengths: the name of a length is none")
    if not all(0 <= value < 1 << 31 for value in values):
        raise InputError("record: lengths: a length is negative or too large")
    for t in (measured.default, measured.tuned):
        if not 0 < t.min <= t.median <= t.p90 <= LONGEST or t.samples < 1:
            raise InputError("record: times must be positive, 0 < min <= median <= p90, of samples")
    if measured.tuned.median > measured.default.median * NOISE:
        at = ", ".join(f"{name} = {value}" for name, value in measured.lengths.items())
        raise InputError(f"record: slower than the default schedule at {at or 'its lengths'}")


def _load(text: str) -> Any:
    """JSON whose keys come once each and whose numbers are numbers."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error!s:.120}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
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
    """No control characters, also none that reorder text: it is shown on terminals."""
    return bool(text) and text.isprintable()


def _is_date(text: str) -> bool:
    try:
        return datetime.strptime(text, DATE).strftime(DATE) == text
    except ValueError:
        return False
