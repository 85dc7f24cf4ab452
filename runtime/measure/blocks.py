"""Finds the layers in the sequence of kernels that a step calls: the parts that repeat.

Nothing in a bundle says which call belongs to which layer, but the layers of a tower are the same
sequence of kernels over and over. Where two kinds of layers alternate, a block is one period of
them, several layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SHORTEST = 4
"""Calls in a block, at least: a shorter repetition is within a layer."""
LONGEST = 400
"""Calls in a block, at most; bounds the cost of the search."""


@dataclass(frozen=True)
class Part:
    """`count` blocks of `period` calls from `start` on; count 1: calls that do not repeat."""

    start: int
    period: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.period * self.count


def find_parts(calls: Sequence[str]) -> list[Part]:
    """The parts of a step in order, together all its calls, (n,) names of kernels."""
    return list(_parts(calls, 0))


def _parts(calls: Sequence[str], offset: int) -> Iterator[Part]:
    if not calls:
        return
    found = longest_repetition(calls)
    if found is None:
        yield Part(offset, len(calls), 1)
        return
    yield from _parts(calls[: found.start], offset)
    yield Part(offset + found.start, found.period, found.count)
    yield from _parts(calls[found.end :], offset + found.end)


def longest_repetition(calls: Sequence[str]) -> Part | None:
    """The repetition with the most calls; of equal ones, the one with the shortest blocks."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(calls))}
    ids = [numbers[name] for name in calls]
    best: Part | None = None
    for period in range(SHORTEST, min(len(ids) // 2, LONGEST) + 1):
        for start, same in _runs(ids, period):
            part = Part(start, period, 1 + same // period)
            if part.count > 1 and (best is None or _size(part) > _size(best)):
                best = part
    return best


def _size(part: Part) -> int:
    return part.period * part.count


def _runs(ids: Sequence[int], period: int) -> Iterator[tuple[int, int]]:
    """(start, length) of each longest stretch in which a call equals the one a period later."""
    start = None
    for place in range(len(ids) - period + 1):
        equal = place < len(ids) - period and ids[place] == ids[place + period]
        if equal and start is None:
            start = place
        elif not equal and start is not None:
            yield start, place - start
            start = None
