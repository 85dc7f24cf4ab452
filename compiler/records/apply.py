"""Records at work: for a function and a rule, the schedule that a record's choices make.

A record that does not fit is passed over and told; the next one is tried, and in the end the
default schedule. Compiling never fails because of one.
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
"""Records for one kernel: a file may have any number that do not fit."""


@dataclass(frozen=True)
class Skipped:
    """A record for a function of the model that was not used, and why."""

    record: Record
    reason: str


class RecordBook:
    """Answers `apply_rules` for one target."""

    def __init__(self, store: Store, target: tvm.target.Target) -> None:
        self.store, self._target = store, target
        self._rules = {stored.record.rule for stored in store}
        self.used: dict[str, Record] = {}
        """By id."""
        self.skipped: list[Skipped] = []

    def __call__(self, func: tirx.PrimFunc, rule: Rule) -> Found | None:
        """The function as the first record that fits has it, None where none does."""
        if rule.name not in self._rules:
            return None
        candidates = self.store.by_task.get(task_hash(func, rule.name), [])
        for stored in candidates[:MOST_TRIED]:
            found = self._replay(func, rule, stored.record)
            if found:
                self.used[stored.record.id] = stored.record
                return found
        return None

    def set_aside(self, reason: str) -> None:
        """Use none of them any more."""
        self.skipped += [Skipped(record, reason) for record in self.used.values()]
        self.used, self._rules = {}, set()

    def _replay(self, func: tirx.PrimFunc, rule: Rule, record: Record) -> Found | None:
        try:
            if record.rule != rule.name:
                raise ValueError(f"it is for rule '{record.rule}', '{rule.name}' takes this one")
            sch = replay(func, rule, self._target, record.choices)
        except Exception as error:  # noqa: BLE001  whatever TVM may raise
            self.skipped.append(Skipped(record, reason_of(error)))
            return None
        return Found(sch, rule, dict(record.choices), record.id)


def reason_of(error: BaseException) -> str:
    """Its last line; errors of TVM's schedules show the whole function first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[-1] if lines else type(error).__name__:.300}"
