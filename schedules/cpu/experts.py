"""The choices of the experts' products: the register tile and the size of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock, Schedule

from ..choices import Choices
from ..replace_nest import replace_nests, root_of
from ..tiling import is_one, settled
from .expert_nest import (
    EXPERTS,
    ExpertBlocking,
    ExpertOperands,
    ExpertShape,
    task_of,
    write_experts,
)
from .tasks import PER_TASK, in_tasks, parallel

OFFERS: Mapping[str, Sequence[int]] = {
    "rows": (1, 2, 4, 6, 8, 12),
    "columns": (1, 2, 4, 8),
    "unroll": (1, 2, 4, 8),
    "per_task": PER_TASK,
}
"""Rows and panels of a register tile, inputs per iteration, and tasks of the operator per parallel
task: the same panels of consecutive experts."""


def choose_experts(sch: Schedule, block, choices: Choices) -> None:
    """Replace the operator's nest if its register tile should have another shape, and run its tasks
    in parallel."""
    nest = sch.get(block)
    shape, operands = ExpertShape.of(nest), ExpertOperands.of(nest)
    own = _own(nest)
    options = _options(shape, is_one(operands.x.shape[0]))
    blocking = _pick(sch, own, options, choices)
    if blocking != own:
        sources = [operands.x, operands.order, operands.starts, *operands.parts, operands.out]
        emit = lambda: write_experts(shape, operands, blocking)  # noqa: E731
        replace_nests(sch, [nest], [], root_of(sources, emit))
    (task,) = sch.get_child_blocks(sch.get_sblock(EXPERTS))
    loop = sch.get_loops(task)[0]
    least = shape.panels // max(options["columns"]) * shape.experts
    in_tasks(sch, loop, parallel(sch, loop, choices, least))


def _options(shape: ExpertShape, one: bool) -> dict[str, Sequence[int]]:
    """Of the register tile."""
    return {
        "rows": (1,) if one else OFFERS["rows"],
        "columns": [n for n in OFFERS["columns"] if shape.panels % n == 0],
        "unroll": [n for n in OFFERS["unroll"] if shape.inputs % n == 0],
    }


def _pick(
    sch: Schedule, own: ExpertBlocking, options: Mapping[str, Sequence[int]], choices: Choices
) -> ExpertBlocking:
    """The chosen register tile; by default the operator's own."""
    values = {"rows": own.rows, "columns": own.columns, "unroll": own.unrolled}
    for name, offered in options.items():
        if len(offered) > 1:
            values[name] = settled(sch, choices.pick(sch, name, offered, values[name]))
    return ExpertBlocking(values["rows"], values["columns"], values["unroll"])


def _own(nest: SBlock) -> ExpertBlocking:
    """The register tile of a nest, by the shape of its sums and the inputs that it binds."""
    bound: list[tirx.Bind] = []
    tvm_ffi.structural_walk(nest.body, (tirx.Bind, bound.append))
    rows, columns, _ = task_of(nest).alloc_buffers[0].shape
    return ExpertBlocking(int(rows), int(columns), len(bound) - 1)
