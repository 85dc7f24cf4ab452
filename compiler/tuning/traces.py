"""Reads a MetaSchedule database as data. A trace is never replayed: its decisions are read by name.

A trace can hold any instruction and annotation of TVM, such as pragmas that insert foreign code.
Ours sample named choices and note them, and nothing else is accepted. TVM parses neither traces nor
modules of a file: workloads are compared by their hash.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..records.lines import Refused, read_heads, read_lines

WORKLOADS, RECORDS = "database_workload.json", "database_tuning_record.json"
PREFIX = "handglass.choice."
"""Begins the name of an annotation that notes a choice."""
SAMPLE, ANNOTATE = "SampleCategorical", "Annotate"
ALLOWED = frozenset({"GetSBlock", "GetChildBlocks", SAMPLE, ANNOTATE})
MOST_INSTRUCTIONS = 256
MOST_VALUES = 256
"""Most values of one choice."""
LARGEST = 1 << 20
"""Largest value of a choice."""
MOST_LINES = 100_000
HEAD = 64
"""Bytes of a workload that are read: its hash is the first of two elements."""


@dataclass(frozen=True)
class Stored:
    """A tuning record of a database: the line of its workload, its choices and seconds."""

    workload: int
    choices: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class Contents:
    """Hashes of the workloads in the order of their lines, the records, and the refused lines."""

    workloads: tuple[str, ...]
    records: tuple[Stored, ...]
    refused: tuple[Refused, ...]


def read_database(folder: Path) -> Contents:
    """Read the database in a folder; empty if there is none.

    A fault affects only its own line. Raises InputError for what is not a regular file.
    """
    records, refused = [], []
    if not (folder / RECORDS).exists() or not (folder / WORKLOADS).exists():
        return Contents((), (), ())
    workloads = tuple(map(_hash, read_heads(folder / WORKLOADS, HEAD, MOST_LINES)))
    for number, line in enumerate(read_lines(folder / RECORDS)):
        if number >= MOST_LINES:
            break
        found = line if isinstance(line, Refused) else _parse(line.number, line.text)
        if isinstance(found, Refused):
            refused.append(found)
        elif found.workload < len(workloads):
            records.append(found)
        else:
            refused.append(Refused(number + 1, f"there is no workload {found.workload}"))
    return Contents(workloads, tuple(records), tuple(refused))


def _hash(head: bytes) -> str:
    """The hash of a workload, "" in a damaged line."""
    found = re.match(rb'\["(\d{1,20})","', head)
    return found[1].decode() if found else ""


def _parse(number: int, text: str) -> Stored | Refused:
    try:
        workload, (trace, seconds, _, _) = json.loads(text)
        return Stored(_integer(workload, MOST_LINES), choices_of(trace), _seconds(seconds))
    except TraceError as error:
        return Refused(number, str(error))
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return Refused(number, "not a tuning record")


class TraceError(Exception):
    """A trace that is not one of named choices."""


def choices_of(trace: Any) -> dict[str, int]:
    """The choices that a trace (as JSON) notes by name. Raises TraceError if it is another one."""
    instructions, decisions = trace
    if len(instructions) > MOST_INSTRUCTIONS:
        raise TraceError(f"more than {MOST_INSTRUCTIONS} instructions")
    at = {_integer(index, MOST_INSTRUCTIONS): value for index, value in decisions}
    values: dict[str, int] = {}
    choices: dict[str, int] = {}
    for index, (kind, inputs, attributes, outputs) in enumerate(instructions):
        if not isinstance(kind, str) or kind not in ALLOWED:
            shown = ascii(kind)[:60]
            raise TraceError(f"instruction {shown} is not one of {', '.join(sorted(ALLOWED))}")
        if kind == SAMPLE:
            (output,) = outputs
            values[str(output)] = _decided(attributes, at.get(index))
        elif kind == ANNOTATE:
            (_, value), (key,) = inputs, attributes
            name = _name(key)
            if not isinstance(value, str) or value not in values:
                raise TraceError(f"choice {ascii(name)[:60]} is not sampled")
            choices[name] = values[value]
    return choices


def _decided(attributes: Any, decision: Any) -> int:
    """The value that a SampleCategorical has with its decision."""
    options = attributes[0]
    if not isinstance(options, list) or not 0 < len(options) <= MOST_VALUES:
        raise TraceError(f"a choice with no value or more than {MOST_VALUES}")
    return _integer(options[_integer(decision, len(options) - 1)], LARGEST)


def _name(key: Any) -> str:
    if not isinstance(key, str) or not key.startswith(PREFIX):
        raise TraceError(f"annotation {ascii(key)[:60]} is not a named choice")
    return key.removeprefix(PREFIX)


def _integer(value: Any, largest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise TraceError(f"{ascii(value)[:40]} is not an integer from 0 to {largest}")
    return value


def _seconds(values: Any) -> float:
    """The least of a record's times."""
    if not isinstance(values, list) or not 0 < len(values) <= MOST_VALUES:
        raise TraceError("no times")
    least = min(float(value) for value in values)
    if not (math.isfinite(least) and least > 0):
        raise TraceError(f"{least} is not a time in seconds")
    return least
