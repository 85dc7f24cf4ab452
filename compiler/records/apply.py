"""Applies records: schedules a function by a rule with the choices of a record.

A record that does not fit is skipped and reported; the next one is tried, and finally the default
schedule is used. A record never makes compilation fail.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import tirx

from handglass.schedules import Rule
from handglass.schedules.rule import Found, replay

from ..lowering.task_hash import task_hash
from .record import Record
from .store import Store

MOST_TRIED = 8
"""Most records tried per kernel: a file may contain any number that do not fit."""


@dataclass(frozen=True)
class Skipped:
    """A record for a function of the model that was not used, and the reason."""

    record: Record
    reason: str


class RecordBook:
    """The `replays` callback of `apply_rules` for one target."""

    def __init__(self, store: Store, target: tvm.target.Target) -> None:
        self.store, self._target = store, target
        self._rules = {stored.record.rule for stored in store}
        self.used: dict[str, Record] = {}
        """Applied records by id."""
        self.sources: dict[str, str] = {}
        """Where each of them comes from: NAMED, OWN or SHIPPED."""
        self.skipped: list[Skipped] = []

    def __call__(self, func: tirx.PrimFunc, rule: Rule) -> Found | None:
        """Schedule the function by the first record that fits; None if none does."""
        if rule.name not in self._rules:
            return None
        candidates = self.store.by_task.get(task_hash(func, rule.name), [])
        for stored in candidates[:MOST_TRIED]:
            found = self._replay(func, rule, stored.record)
            if found:
                self.used[stored.record.id] = stored.record
                self.sources[stored.record.id] = stored.source
                return found
        return None

    def set_aside(self, reason: str) -> None:
        """Stop using any record, and report those used so far as skipped."""
        self.skipped += [Skipped(record, reason) for record in self.used.values()]
        self.used, self._rules = {}, set()

    def _replay(self, func: tirx.PrimFunc, rule: Rule, record: Record) -> Found | None:
        try:
            if record.rule != rule.name:
                raise ValueError(f"it is for rule '{record.rule}', not for '{rule.name}'")
            sch = replay(func, rule, self._target, record.choices)
        except Exception as error:  # noqa: BLE001  TVM may raise anything
            self.skipped.append(Skipped(record, reason_of(error)))
            return None
        return Found(sch, rule, dict(record.choices), record.id)


def reason_of(error: BaseException) -> str:
    """The last line of an error; errors of TVM's schedules print the whole function first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[-1] if lines else type(error).__name__:.300}"
