"""A report as data: what `handglass report --json` prints and reads again.

A saved report may come from another device, so it is checked like any file from elsewhere: its
keys are exactly the fields, and every text, number and list is within a bound. Rates are per
second, times in milliseconds unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from handglass.errors import InputError

from ..system.json_dataclass import optional, parse_dataclass, plain
from ..system.json_text import parse_json

FORMAT, VERSION = "handglass-measured", 1
MAX_FILE = 4 << 20
"""Largest saved report in bytes."""
MAX_TEXT, MAX_ITEMS, LEAST_NUMBER, MAX_NUMBER = 300, 4096, 1e-18, 1e18
TWO_SIDES = "handglass-comparison"
"""The format of two reports side by side, which is not read again."""


@dataclass(frozen=True)
class Spread:
    """None: not measured."""

    min: float | None
    median: float | None
    p90: float | None


@dataclass(frozen=True)
class About:
    """What the bundle is."""

    model: str
    target: str
    processor: str
    """The triple and the CPU that the host code is compiled for."""
    kind: str
    """The kind of device that runs the kernels."""
    features: tuple[str, ...]
    scheme: Mapping[str, str]
    versions: Mapping[str, str]
    context: int
    vocabulary: int
    tensors: int
    file_bytes: int
    picture: str
    functions: tuple[str, ...]
    layers: tuple[int, ...]
    """Numbers of layers in the model's configuration."""


@dataclass(frozen=True)
class Memory:
    """Bytes; None: not measured."""

    weights: int
    state: int
    workspace: int | None
    """Of the step that allocates most for intermediate results."""
    peak: int | None
    """Of a process that loads the bundle and answers one question."""
    machine: int | None
    """All that the machine has."""


@dataclass(frozen=True)
class Scheduled:
    """A kernel, and where its schedule comes from."""

    kernel: str
    rule: str
    share: float | None
    """Of the kernel time of an answer, as the compiler estimates it."""
    record: str | None
    """The id of its tuning record; None: the default schedule."""
    device: str | None
    """Where the record was measured."""


@dataclass(frozen=True)
class Stage:
    """Signal to noise of one stage of `handglass verify`, in dB."""

    stage: str
    snr_db: float
    floor_db: float
    ok: bool
    arithmetic_db: float | None


@dataclass(frozen=True)
class Layer:
    """What storage has left of the weights of one layer: its worst tensor, in dB."""

    layer: str
    snr_db: float
    floor_db: float
    tensor: str


@dataclass(frozen=True)
class Arrival:
    """The rows that arrive at a layer, or at the norm after the last one, in dB."""

    layer: str
    snr_db: float
    arithmetic_db: float


@dataclass(frozen=True)
class Parity:
    ok: bool
    stages: tuple[Stage, ...]
    layers: tuple[Layer, ...]
    arrivals: tuple[Arrival, ...] = optional(tuple)


@dataclass(frozen=True)
class Kernel:
    """One kernel in one phase; `bytes`, `operations` and `ms` are of one step."""

    kernel: str
    rule: str
    calls: float
    ms: float
    share: float
    median_us: float
    bytes: float | None
    operations: float | None
    limit: str | None
    """The probe that bounds it; None if that was not measured."""
    limit_fraction: float | None


@dataclass(frozen=True)
class PartKernel:
    kernel: str
    calls: int
    ms: float


@dataclass(frozen=True)
class Part:
    """A part of a step: the layers, or what comes before, between or after."""

    blocks: int
    ms: float
    block_ms: tuple[float, ...]
    kernels: tuple[PartKernel, ...]


@dataclass(frozen=True)
class Phase:
    phase: str
    step_ms: Spread
    observed_ms: Spread
    """With the hook that times the kernels."""
    kernels: tuple[Kernel, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Measured:
    """What was measured, where and when."""

    device: str
    gpu: str | None
    threads: int
    versions: Mapping[str, str]
    limits: Mapping[str, Spread]
    """Probe -> rate per second."""
    phases: tuple[Phase, ...]
    interrupted: bool


@dataclass(frozen=True)
class Content:
    format: str
    version: int
    date: str
    revision: str
    bundle: About
    memory: Memory
    kernels: tuple[Scheduled, ...]
    parity: Parity | None
    measured: Measured | None
    not_measured: str
    """Why `measured` is None; empty if it is not."""


def as_json(content: Content) -> dict[str, Any]:
    found: dict[str, Any] = plain(content)
    return found


def parse_content(data: bytes, where: str) -> Content:
    """Read a saved report; `where` names it in errors. Raises InputError."""
    value = parse_json(data, where, MAX_FILE)
    if isinstance(value, dict) and value.get("format") == TWO_SIDES:
        raise InputError(f"{where}: compares two bundles; give a report of one")
    for problem in beyond(value):
        raise InputError(f"{where}: {problem}")
    content = parse_dataclass(Content, value, where)
    if (content.format, content.version) != (FORMAT, VERSION):
        raise InputError(
            f"{where}: format is {content.format[:100]!r}, version {content.version}, must be "
            f"{FORMAT!r}, version {VERSION}; make it with 'handglass report BUNDLE --json'"
        )
    return content


def beyond(value: Any, key: str = "") -> Iterator[str]:
    """A sentence for each value of a JSON document that is out of bounds, with its key."""
    at = key or "the document"
    if isinstance(value, str) and len(value) > MAX_TEXT:
        yield f"{at[:100]} has {len(value)} characters, but at most {MAX_TEXT} are read"
    elif isinstance(value, int | float) and not _within(value, key):
        yield (
            f"{at[:100]} is {value!r:.40}, but must be 0 or from {LEAST_NUMBER:g} to {MAX_NUMBER:g}"
        )
    elif isinstance(value, list | dict):
        yield from _items_beyond(value, key)


def _items_beyond(value: list[Any] | dict[str, Any], key: str) -> Iterator[str]:
    if len(value) > MAX_ITEMS:
        yield f"{key or 'the document'} has {len(value)} items, but at most {MAX_ITEMS} are read"
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in items:
        yield from beyond(str(name), f"{key}: a key")
        yield from beyond(item, f"{key}.{name}"[-MAX_TEXT:].removeprefix("."))


def _within(value: float, key: str) -> bool:
    """Whether a number is within its bound: only ratios in dB may be negative. No product or ratio
    of two such numbers is beyond a double."""
    if value < 0 and not key.endswith("_db"):
        return False
    return value == 0 or LEAST_NUMBER <= abs(value) <= MAX_NUMBER
