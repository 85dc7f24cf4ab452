"""What records of near kernels propose: the same rule and arguments, but for the lengths.

A fresh device, or a model of another size, begins with what was found elsewhere. A proposal is one
of the first trials and no more: it is measured and verified like any other candidate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from ..lowering.tasks import Task
from ..records.record import Record

Choices = Mapping[str, int]


def proposals_of(task: Task, records: Iterable[Record], most: int) -> list[Choices]:
    """Choices of records that the task offers, of the nearest lengths first, at most `most`."""
    words, _ = _signature(task.about)
    near = [r for r in records if r.rule == task.rule.name and _signature(r.about)[0] == words]
    near.sort(key=lambda record: distance(task.about, record.about))
    completed = [task.completed(record.choices) for record in near]
    offered: list[Choices] = [c for c in completed if c and c != task.defaults]
    distinct = {tuple(sorted(choices.items())): choices for choices in offered}
    return list(distinct.values())[:most]


def distance(about: str, other: str) -> float:
    """Sum of the doublings between the lengths of two signatures with the same words."""
    pairs = zip(_signature(about)[1], _signature(other)[1], strict=True)
    return sum(abs(math.log2(1 + a) - math.log2(1 + b)) for a, b in pairs)


def _signature(about: str) -> tuple[str, list[int]]:
    """Words of a signature, and its lengths. Numbers within a word (int8) are part of it."""
    number = r"\b\d{1,18}\b"
    return re.sub(number, "#", about), [int(found) for found in re.findall(number, about)]
