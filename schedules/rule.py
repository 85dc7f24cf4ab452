"""Scheduling rules, and their application to a module.

A `Rule` inspects one PrimFunc through a Schedule. It either rewrites the schedule in place and
returns True, or declines and returns False. Rules are tried in order; the first that returns True
wins. A rule works on loops and blocks and never refers to a model or device by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import tvm
from tvm import tirx
from tvm.s_tir import Schedule, ScheduleError, renew_defs

from .choices import DEFAULTS, Choices, Noted, Open, UnknownChoiceError, Written

PATTERN = "handglass.pattern"
"""Block annotation with the kind of operator: "matmul", "norm", "attention", ..."""

MULTIPLY_ADDS = "handglass.multiply_adds"
"""Block annotation of a written-out loop nest: its multiply-adds, as a list of factors.

Each factor is a sum of lengths. For other blocks, `report.json` derives the count from the axes.
"""
SEEN = "handglass.seen"
"""Block annotation that accompanies MULTIPLY_ADDS: [places, size].

In inputs of three or more dimensions whose second one has `size` places, or panels of them, only
`places` places are read.
"""
ROUNDED = "handglass.rounded"
"""Block annotation of operators whose operands may be rounded to 16 bits."""
BY_TWOS = "handglass.by_twos"
"""Loop annotation on CUDA: rounds alternate between two places (codegen/cuda/by_twos.py)."""
CHOSEN = "handglass.chosen"
"""Block annotation that accompanies MULTIPLY_ADDS: the factors of the number of panels that are
read of inputs of three or more dimensions, whose first one counts panels."""

Apply = Callable[[Schedule, tvm.target.Target, Choices], bool]


@dataclass(frozen=True)
class Rule:
    """A named schedule. Calling it applies the schedule; `choices` answers its tunable choices."""

    name: str
    apply: Apply
    patterns: frozenset[str] = frozenset()
    """Patterns that the rule handles; empty for a fallback."""

    on_cache: Callable[[int], Apply] | None = None
    """Bytes of L2 cache per core -> the schedule for it; None if it does not depend on L2."""

    offers: Mapping[str, Sequence[int]] = field(default_factory=dict, hash=False)
    """All choices that the rule may request, with all values that it may offer.

    A function is offered those values that fit it. A tuning record can name no others.
    """

    def fitted(self, l2: int) -> Rule:
        """The rule for a core with `l2` bytes of L2 cache."""
        return replace(self, apply=self.on_cache(l2)) if self.on_cache else self

    def __call__(
        self, sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS
    ) -> bool:
        return self.apply(sch, target, choices)


@dataclass(frozen=True)
class Scheduled:
    """One line of the report: which rule scheduled which function."""

    function: str
    rule: str
    patterns: tuple[str, ...]
    choices: Mapping[str, int] = field(default_factory=dict, hash=False)
    source: str = ""
    """Id of the tuning record that made the choices, or "" for the rule's defaults."""


@dataclass(frozen=True)
class Found:
    """A scheduled function, its rule, the choices, and their source as in `Scheduled`."""

    schedule: Schedule
    rule: Rule
    choices: Mapping[str, int]
    source: str = ""


Replays = Callable[[tirx.PrimFunc, Rule], "Found | None"]
"""Schedules a function by a rule with recorded choices; None if no record applies."""


class UnscheduledError(Exception):
    """A function with a pattern was scheduled by no rule for this pattern."""


def blocks(sch: Schedule) -> list:
    """The blocks below the root, in program order; just the root if it carries a pattern."""
    root = sch.get_sblock(sch.mod["main"].body.block.name_hint)
    return [root] if pattern_of(sch, root) else list(sch.get_child_blocks(root))


def pattern_of(sch: Schedule, block) -> str:
    """The pattern annotation of a block, "" if it has none."""
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
    """Schedule `func` by the first rule that takes it; None if none does. `func` is unchanged."""
    for rule in _worth_trying(rules, func):
        if sch := applied(rule, func, target, choices):
            return sch, rule
    return None


ATTEMPTS = 4


def applied(
    rule: Rule, func: tirx.PrimFunc, target: tvm.target.Target, choices: Choices
) -> Schedule | None:
    """A copy of `func` scheduled by the rule; None if it declines.

    What TVM can prove about symbolic sizes depends on addresses of objects: a primitive of CUDA's
    tensor core schedule failed in 0.7 % of all runs, and succeeded in the next.
    """
    for attempt in range(1, ATTEMPTS + 1):
        sch = Schedule(renew_defs(func))  # its own: a rule that declines may have changed it
        try:
            return sch if rule(sch, target, choices) else None
        except ScheduleError:
            if attempt == ATTEMPTS:
                raise
            if isinstance(choices, Open):
                choices.restart()
    return None


def replay(
    func: tirx.PrimFunc, rule: Rule, target: tvm.target.Target, choices: Mapping[str, int]
) -> Schedule:
    """Schedule `func` by `rule` with recorded choices, and the defaults of others.

    Raises UnknownChoiceError if the rule declines the function, or lacks one of the choices or
    values.
    """
    written = Written(choices)
    sch = applied(rule, func, target, written)
    if sch is None:
        raise UnknownChoiceError(f"rule '{rule.name}' does not apply to this function")
    written.check()
    return sch


def apply_rules(
    mod: tvm.IRModule,
    rules: Sequence[Rule],
    target: tvm.target.Target,
    replays: Replays = lambda func, rule: None,
) -> tuple[tvm.IRModule, list[Scheduled]]:
    """Schedule every PrimFunc of `mod` and report which rule scheduled which function.

    For each rule, `replays` is tried before the rule's defaults. Raises UnscheduledError if no rule
    takes a function, or if it carries a pattern that some rule handles but a different rule (the
    fallback) takes it.
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
    for rule in _worth_trying(rules, func):
        if replayed := replays(func, rule):
            return replayed
        noted = Noted()
        if sch := applied(rule, func, target, noted):
            return Found(sch, rule, noted.values)
    return None


def _worth_trying(rules: Sequence[Rule], func: tirx.PrimFunc) -> list[Rule]:
    """The fallbacks, and the rules that handle a pattern of the function."""
    patterns = patterns_of(func)
    return [r for r in rules if not r.patterns or not r.patterns.isdisjoint(patterns)]


def _row(name: str, func: tirx.PrimFunc, found: Found | None) -> Scheduled:
    if found is None:
        return Scheduled(name, "none", patterns_of(func))
    return Scheduled(name, found.rule.name, patterns_of(func), found.choices, found.source)


def patterns_of(func: tirx.PrimFunc) -> tuple[str, ...]:
    """The patterns of the function's blocks, sorted."""
    sch = Schedule(func)
    return tuple(sorted({pattern_of(sch, block) for block in blocks(sch)} - {""}))


def _check(row: Scheduled, taken_by: Rule | None, rules: Sequence[Rule]) -> None:
    wanted = {p for rule in rules for p in rule.patterns} & set(row.patterns)
    if taken_by is None or (wanted and not wanted & taken_by.patterns):
        raise UnscheduledError(
            f"function {row.function} ({', '.join(row.patterns) or 'no pattern'}) was scheduled by "
            f"rule '{row.rule}', not by a rule for its pattern: it would run as a naive loop nest"
        )


def _scheduled(sch: Schedule, func: tirx.PrimFunc) -> tirx.PrimFunc:
    result = sch.mod["main"].with_attr("tirx.is_scheduled", True)
    name = func.attrs.get("global_symbol") if func.attrs else None
    return result.with_attr("global_symbol", name) if name else result.without_attr("global_symbol")
