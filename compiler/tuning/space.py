"""The search space of a kernel as MetaSchedule sees it: named decisions, and no loops.

A rule determines tensor intrinsics and the number of loops by its choices, which a trace of its
instructions with other decisions does not reproduce. So the trace only samples each choice and
notes it by name; the rule runs where its result is needed, in the builder and for features.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import tvm
from tvm import tirx
from tvm.ir.utils import derived_object
from tvm.s_tir import Schedule, Trace
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule import _ffi_api
from tvm.s_tir.stmt import SBlock, SBlockRealize

from handglass.targets.target import Target

from ..lowering.tasks import Task
from .traces import PREFIX, SAMPLE

BLOCK = "choices"
"""The block that carries the decisions."""
TASK, ABOUT = "handglass.task", "handglass.about"
"""Attributes of the function around it: the hash of the kernel's task, and its signature."""


def module_of(task: Task) -> tvm.IRModule:
    """A function without arguments, whose only block carries the decisions about the kernel.

    It names the kernel as a record does, by its hash. If the module held the kernel, every
    candidate that the search considers would traverse its loops (6 ms instead of 0.07 for
    attention); and MetaSchedule describes the arguments, which fails for symbolic lengths.
    """
    block = SBlock([], [], [], BLOCK, tirx.Evaluate(0))
    root = SBlock([], [], [], "root", SBlockRealize([], True, block))
    func = tirx.PrimFunc([], SBlockRealize([], True, root))
    named = {"global_symbol": "main", TASK: task.hash, ABOUT: task.about}
    return tvm.IRModule({"main": func.with_attr(named)})


def decide(sch: Schedule, task: Task, choices: Mapping[str, int] | None = None) -> None:
    """Sample every choice of the task and note it by name; `choices` fixes the decisions."""
    block = sch.get_sblock(BLOCK)
    for name, values in task.options.items():
        at = None if choices is None else values.index(choices[name])
        even = [1.0 / len(values)] * len(values)
        sch.annotate(block, PREFIX + name, sch.sample_categorical(list(values), even, at))


def decided(mod: tvm.IRModule, choices: Mapping[str, int], task: Task) -> Schedule:
    """A schedule of `mod` with these decisions."""
    sch = Schedule(mod)
    decide(sch, task, choices)
    return sch


def hash_in(mod: tvm.IRModule) -> str:
    """The hash of the task that a candidate belongs to."""
    return str(mod["main"].attrs[TASK])


def choices_in(mod: tvm.IRModule) -> dict[str, int]:
    """The decisions that a candidate carries, by name."""
    notes = mod["main"].body.block.body.block.annotations
    named = {str(key): int(value) for key, value in notes.items()}
    return {k.removeprefix(PREFIX): v for k, v in named.items() if k.startswith(PREFIX)}


class _FlipChoice(ms.mutator.PyMutator):
    """Gives one decision of a trace another value."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self.random = seed, random.Random(seed)

    def _initialize_with_tune_context(self, context: ms.TuneContext) -> None:
        pass

    def apply(self, trace: Trace, _: int) -> Trace | None:
        sampled = [inst for inst in trace.insts if inst.kind.name == SAMPLE]
        flippable = [inst for inst in sampled if len(inst.attrs[0]) > 1]
        if not flippable:
            return None
        inst = self.random.choice(flippable)
        now = int(trace.decisions[inst])
        # A plain int: TVM refuses an IntImm here.
        other = self.random.choice([n for n in range(len(inst.attrs[0])) if n != now])
        return trace.with_decision(inst, other, True)

    def clone(self) -> ms.Mutator:
        return FlipChoice(self.seed)


FlipChoice = derived_object(_FlipChoice)


def strategy_of(task: Task) -> ms.SearchStrategy:
    """An evolutionary search for spaces of 2 to 100 million candidates.

    The default population of 512 would be larger than most spaces.
    """
    population = max(4, min(32, task.size // 2))
    return ms.search_strategy.EvolutionarySearch(
        population_size=population,
        init_measured_ratio=0.3,
        init_min_unmeasured=1,
        genetic_num_iters=2,
        genetic_max_fail_count=4,
        eps_greedy=0.2,
    )


def context_of(task: Task, target: Target, seed: int) -> ms.TuneContext:
    """The TuneContext of a kernel.

    Not by its constructor, which first imports the tensor intrinsics of all devices: 16 s.
    """
    space = ms.space_generator.ScheduleFn(
        lambda sch: decide(sch, task),
        sch_rules=[],
        postprocs=[],
        mutator_probs={FlipChoice(seed): 1.0},
    )
    context = ms.TuneContext.__new__(ms.TuneContext)
    tvm_target = tvm.target.Target(target.tvm)
    settings: Sequence[object] = (space, strategy_of(task), task.name, 1, seed, _quiet)
    context.__init_handle_by_constructor__(
        _ffi_api.TuneContext, module_of(task), tvm_target, *settings
    )
    _ffi_api.TuneContextInitialize(context)
    return context


def _quiet(level: int, file: str, line: int, text: str) -> None:
    """Discards MetaSchedule's log, which prints every module."""
