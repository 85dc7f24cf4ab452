"""The tunable choices of a schedule, by name: a default, left open to a tuner, or recorded.

A rule requests each of its choices once. The caller of the rule supplies the object that answers,
so the same function gives the default schedule, the search space of a tuner and the replay of a
record. A record holds only names and numbers; what a choice does to the loops is in the rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tvm.s_tir import Schedule


class Choices(Protocol):
    """Answers the choices that a rule requests."""

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int):
        """Return one of `options`, given in ascending order; `default` may be missing from them."""


class Defaults:
    """Picks the rule's default, or the next smaller option. Defaults are measured or estimated."""

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int) -> int:
        return max(n for n in options if n <= default)


class Noted(Defaults):
    """Picks the defaults and records them in `values`."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int) -> int:
        self.values[name] = super().pick(sch, name, options, default)
        return self.values[name]


class Open:
    """Emits a sampling instruction for each choice.

    `options` and `defaults` are in the order in which the rule requests them.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was requested: the rule is applied once more."""
        self.options: dict[str, tuple[int, ...]] = {}
        self.defaults: dict[str, int] = {}

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int):
        if name in self.options:
            raise ValueError(f"the rule requested choice '{name}' twice")
        self.options[name] = tuple(options)
        self.defaults[name] = Defaults().pick(sch, name, options, default)
        return sch.sample_categorical(list(options), [1.0 / len(options)] * len(options))


class UnknownChoiceError(Exception):
    """A recorded choice has a name or value that the rule does not offer."""


class Written:
    """Replays recorded choices. `check` fails if the rule did not request all of them.

    A choice without a recorded value has the rule's default: the record is older than the choice.
    """

    def __init__(self, values: Mapping[str, int]) -> None:
        self.values = dict(values)
        self.requested: set[str] = set()

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int) -> int:
        self.requested.add(name)
        if name not in self.values:
            return Defaults().pick(sch, name, options, default)
        value = self.values[name]
        if value not in options:
            offered = ", ".join(map(str, options))
            raise UnknownChoiceError(f"choice '{name}': {value} is not one of {offered}")
        return value

    def check(self) -> None:
        """Raise UnknownChoiceError if the rule never requested one of the recorded choices."""
        for name in self.values.keys() - self.requested:
            raise UnknownChoiceError(f"the rule has no choice '{name}'")


DEFAULTS = Defaults()
