"""What a schedule is here, and how a module gets its schedules.

A `Rule` looks at one PrimFunc through a Schedule, either rewrites it in place and answers True, or
leaves it alone and answers False. Rules are tried in order, the first that answers True wins.
A rule knows loops and blocks, never a model or a device by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import tvm
from tvm import tirx
from tvm.s_tir import Schedule, renew_defs

from .choices import DEFAULTS, Choices, Noted, UnknownChoiceError, Written

PATTERN = "handglass.pattern"
"""Block annotation by which an operator says what it is: "matmul", "norm", "attention", ..."""

MULTIPLY_ADDS = "handglass.multiply_adds"
"""Block annotation of a loop nest that is written out: its multiply-adds, as a list of factors,
each a sum of lengths; `report.json` counts other blocks by their axes."""
SEEN = "handglass.seen"
"""Beside it: [places, size]: of its inputs with three dimensions or more, the second of which has
`size` places or panels of them, only so many places are read."""

Apply = Callable[[Schedule, tvm.target.Target, Choices], bool]


@dataclass(frozen=True)
class Rule:
    """A named schedule; `choices` says who decides what it leaves open."""

    name: str
    apply: Apply
    patterns: frozenset[str] = frozenset()
    """Patterns it is responsible for; empty for a fallback."""

    on_cache: Callable[[int], Apply] | None = None
    """The same for a core with so many bytes of L2 cache, where that matters."""

    offers: Mapping[str, Sequence[int]] = field(default_factory=dict, hash=False)
    """Every choice that it may ask for, and every value that it may offer; a function is offered
    those that fit it. A tuning record can name nothing else."""

    def fitted(self, l2: int) -> Rule:
        """For a core with `l2` bytes of L2 cache."""
        return replace(self, apply=self.on_cache(l2)) if self.on_cache else self

    def __call__(
        self, sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS
    ) -> bool:
        return self.apply(sch, target, choices)


@dataclass(frozen=True)
class Scheduled:
    """One line of the report: which rule took which function."""

    function: str
    rule: str
    patterns: tuple[str, ...]
    choices: Mapping[str, int] = field(default_factory=dict, hash=False)
    source: str = ""
    """Who made the choices: the id of a record, or "" for the rule itself."""


@dataclass(frozen=True)
class Found:
    """A scheduled function: by which rule, with which choices, made by whom."""

    schedule: Schedule
    rule: Rule
    choices: Mapping[str, int]
    source: str = ""


Replays = Callable[[tirx.PrimFunc, Rule], "Found | None"]
"""Whether somebody knows better choices for the function than the rule itself."""


class UnscheduledError(Exception):
    """A function on the hot path that no rule for its pattern has taken."""


def blocks(sch: Schedule) -> list:
    """The blocks below the root, in program order; a nest that is all there is has no root."""
    root = sch.get_sblock(sch.mod["main"].body.block.name_hint)
    return [root] if pattern_of(sch, root) else list(sch.get_child_blocks(root))


def pattern_of(sch: Schedule, block) -> str:
    """The pattern that the block was annotated with, "" if none."""
    return str(sch.get(block).annotations.get(PATTERN, ""))


def find(sch: Schedule, pattern: str) -> list:
    """All blocks that carry `pattern`."""
    return [block for block in blocks(sch) if pattern_of(sch, block) == pattern]


def schedule_function(
    func: tirx.PrimFunc,
    rules: Sequence[Rule],
    target: tvm.target.Target,
    choices: Choices = DEFAULTS,
) -> tuple[Schedule, Rule] | None:
    """The first rule's answer for `func`, None if no rule wants it; `func` is not changed."""
    for rule in rules:
        sch = Schedule(renew_defs(func))  # a copy per rule: one that says no may have begun
        if rule(sch, target, choices):
            return sch, rule
    return None


def replay(
    func: tirx.PrimFunc, rule: Rule, target: tvm.target.Target, choices: Mapping[str, int]
) -> Schedule:
    """`func` as `rule` schedules it with these choices; UnknownChoiceError where it has no such."""
    sch, written = Schedule(renew_defs(func)), Written(choices)
    if not rule(sch, target, written):
        raise UnknownChoiceError(f"rule '{rule.name}' does not take this function")
    written.check()
    return sch


def apply_rules(
    mod: tvm.IRModule,
    rules: Sequence[Rule],
    target: tvm.target.Target,
    replays: Replays = lambda func, rule: None,
) -> tuple[tvm.IRModule, list[Scheduled]]:
    """Schedule every PrimFunc of `mod` and say who took what; `replays` is asked before a rule is.

    Raises UnscheduledError where a function carries a pattern that some rule is responsible for,
    yet a rule for another purpose (the fallback) took it, or none did.
    """
    out, report = mod.clone(), []
    for var, func in mod.functions_items():
        if not isinstance(func, tirx.PrimFunc) or func.attrs.get("tirx.is_scheduled", False):
            continue
        found = _find(func, rules, target, replays)
        row = _row(var.name_hint, func, found)
        _check(row, found.rule if found else None, rules)
        report.append(row)
        if found:
            out[var] = _scheduled(found.schedule, func)
    return out, report


def _find(
    func: tirx.PrimFunc, rules: Sequence[Rule], target: tvm.target.Target, replays: Replays
) -> Found | None:
    for rule in rules:
        if replayed := replays(func, rule):
            return replayed
        noted = Noted()
        if found := schedule_function(func, [rule], target, noted):
            return Found(found[0], rule, noted.values)
    return None


def _row(name: str, func: tirx.PrimFunc, found: Found | None) -> Scheduled:
    if found is None:
        return Scheduled(name, "none", patterns_of(func))
    return Scheduled(name, found.rule.name, patterns_of(func), found.choices, found.source)


def patterns_of(func: tirx.PrimFunc) -> tuple[str, ...]:
    """What the function says it is, sorted."""
    sch = Schedule(func)
    return tuple(sorted({pattern_of(sch, block) for block in blocks(sch)} - {""}))


def _check(row: Scheduled, taken_by: Rule | None, rules: Sequence[Rule]) -> None:
    wanted = {p for rule in rules for p in rule.patterns} & set(row.patterns)
    if taken_by is None or (wanted and not wanted & taken_by.patterns):
        raise UnscheduledError(
            f"function {row.function} ({', '.join(row.patterns) or 'no pattern'}) was left to "
            f"rule '{row.rule}': it would run as a naive loop nest"
        )


def _scheduled(sch: Schedule, func: tirx.PrimFunc) -> tirx.PrimFunc:
    result = sch.mod["main"].with_attr("tirx.is_scheduled", True)
    name = func.attrs.get("global_symbol") if func.attrs else None
    return result.with_attr("global_symbol", name) if name else result.without_attr("global_symbol")
