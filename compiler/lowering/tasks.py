"""The kernels of a model as tuning tasks: their choices, lengths and share of the run time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tvm
from tvm import tirx

from handglass.runtime.bundle.report import Kernel
from handglass.schedules import Rule
from handglass.schedules.choices import Open
from handglass.schedules.rule import applied, patterns_of, schedule_function
from handglass.targets.target import Target

from .lengths import names_of
from .phases import calls_of
from .task_hash import signature, task_hash
from .work import work_of
from .workload import Part

Lengths = dict[str, int]


@dataclass(frozen=True)
class Use:
    """Lengths of a kernel call and its number of calls per answer.

    0 calls: the kernel must only not become slower at these lengths.
    """

    lengths: Lengths
    calls: int


@dataclass(frozen=True)
class Task:
    """One kernel whose rule offers choices."""

    name: str
    func: tirx.PrimFunc
    rule: Rule
    hash: str
    about: str
    options: Mapping[str, tuple[int, ...]]
    defaults: Mapping[str, int]
    uses: tuple[Use, ...]
    kernel: Kernel
    """The kernel with the work of one call."""

    @property
    def size(self) -> int:
        """Number of candidates, including the default."""
        count = 1
        for options in self.options.values():
            count *= len(options)
        return count

    def completed(self, choices: Mapping[str, int]) -> dict[str, int] | None:
        """The choices, with the defaults of those that did not exist when they were written.

        None if the task does not offer them: files may come from elsewhere.
        """
        known = all(value in self.options.get(name, ()) for name, value in choices.items())
        return {**self.defaults, **choices} if known else None

    @property
    def main(self) -> Use:
        """The use with the most calls."""
        return max(self.uses, key=lambda use: use.calls)


def extract_tasks(mod: tvm.IRModule, target: Target, parts: Sequence[Part]) -> list[Task]:
    """All kernels of a fused module that an answer calls and whose rule offers choices."""
    calls = {part.function: calls_of(mod[part.function]) for part in parts}
    tasks = []
    for var, func in mod.functions_items():
        if isinstance(func, tirx.PrimFunc) and not func.attrs.get("tirx.is_scheduled", False):
            uses = _uses(var.name_hint, func, parts, calls)
            task = make_task(var.name_hint, func, target, uses) if uses else None
            tasks.extend([task] if task and task.size > 1 else [])
    return tasks


def make_task(name: str, func: tirx.PrimFunc, target: Target, uses: tuple[Use, ...]) -> Task | None:
    """The task of a function, or None if no rule matches it."""
    tvm_target = tvm.target.Target(target.tvm)
    found = schedule_function(func, target.rules, tvm_target)
    if found is None:
        return None
    rule, space = found[1], Open()
    applied(rule, func, tvm_target, space)
    kernel = Kernel(name, rule.name, sum(u.calls for u in uses), patterns_of(func), work_of(func))
    hashed = task_hash(func, rule.name)
    about = signature(func, name)
    return Task(name, func, rule, hashed, about, space.options, space.defaults, uses, kernel)


def _uses(
    name: str, func: tirx.PrimFunc, parts: Sequence[Part], calls: Mapping[str, Counter[str]]
) -> tuple[Use, ...]:
    """The uses of a kernel, grouped by the lengths in its signature."""
    known = symbols_of(func)
    found: Counter[tuple[tuple[str, int], ...]] = Counter()
    for part in parts:
        count = calls[part.function][name]
        for lengths in (part.lengths, *part.others) if count else ():
            key = tuple((s, lengths[s]) for s in known if s in lengths)
            found[key] += part.calls * count if lengths is part.lengths else 0
    return tuple(Use(dict(key), count) for key, count in found.items() if len(key) == len(known))


def symbols_of(func: tirx.PrimFunc) -> list[str]:
    """Names of the lengths that the arguments of a call determine."""
    names: list[str] = []
    for param in func.params:
        sizes = param.shape if isinstance(param.ty, tirx.BufferType) else [param]
        names.extend(n for size in sizes for n in names_of(size) if n not in names)
    return names
