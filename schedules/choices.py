"""The free choices of a schedule, by name: taken by default, left open to a tuner, or written down.

A rule asks for each of its choices once. Whoever calls the rule decides who answers, and so one
function is the default schedule, the space that a tuner searches and the replay of a record.
A record is a handful of names and numbers: what a choice does to the loops stays in our own code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tvm.s_tir import Schedule


class Choices(Protocol):
    """Who answers."""

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int):
        """One of `options`, which are in ascending order; `default` need not be among them."""


class Defaults:
    """What was measured to be good, or was reasoned to be: the default or the next smaller."""

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int) -> int:
        return max(n for n in options if n <= default)


class Noted(Defaults):
    """The defaults, and what they were."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int) -> int:
        self.values[name] = super().pick(sch, name, options, default)
        return self.values[name]


class Open:
    """A sampling instruction for each choice; `names` and `options` are in the order of asking."""

    def __init__(self) -> None:
        self.options: dict[str, tuple[int, ...]] = {}
        self.defaults: dict[str, int] = {}

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int):
        if name in self.options:
            raise ValueError(f"a rule asked twice for the choice '{name}'")
        self.options[name] = tuple(options)
        self.defaults[name] = Defaults().pick(sch, name, options, default)
        return sch.sample_categorical(list(options), [1.0 / len(options)] * len(options))


class UnknownChoiceError(Exception):
    """Written down for another space: a name or a value that the rule does not offer."""


class Written:
    """What somebody wrote down. A rule that was not asked for all of it is not the one meant."""

    def __init__(self, values: Mapping[str, int]) -> None:
        self.values = dict(values)
        self.asked: set[str] = set()

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int) -> int:
        self.asked.add(name)
        value = self.values.get(name)
        if value is None or value not in options:
            offered = ", ".join(map(str, options))
            raise UnknownChoiceError(f"choice '{name}': {value} is not one of {offered}")
        return value

    def check(self) -> None:
        """Raises where something was written down that nobody asked for."""
        for name in self.values.keys() - self.asked:
            raise UnknownChoiceError(f"there is no choice '{name}' here")


DEFAULTS = Defaults()
