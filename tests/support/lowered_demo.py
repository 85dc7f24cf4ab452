"""The demo model before scheduling: functions to hash, schedule and count."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import tvm
from tvm import tirx

from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.lowering.phases import fuse
from handglass.compiler.lowering.tasks import Task, Use, make_task
from handglass.compiler.models import find_family
from handglass.compiler.models.storage import choose_storage
from handglass.schedules.select import find_units
from handglass.targets import find_target
from handglass.targets.target import Target

CHECKPOINT = Path(__file__).parents[2] / "examples" / "demo-checkpoint"
V3 = find_target("x86-64-v3")


def demo_module(target: Target = V3) -> tvm.IRModule:
    """The exported module of the model, with the default storage of a target."""
    checkpoint = Checkpoint.open(CHECKPOINT)
    family = find_family(checkpoint.config)
    config = family.configure(checkpoint.config)
    units = find_units(tvm.target.Target(target.tvm))
    storage = choose_storage(config.language, units, "w4a8", None, 256, None)
    with tvm.target.Target(target.tvm):
        mod, _ = family.build(checkpoint, config, storage).export()
    return mod


def demo_functions(target: Target = V3, fresh: bool = False) -> dict[str, tirx.PrimFunc]:
    """The fused, unscheduled functions by name; with `fresh`, from a second import."""
    return dict(_functions(target, 1 if fresh else 0))


@lru_cache
def _functions(target: Target, number: int) -> dict[str, tirx.PrimFunc]:
    mod = fuse(demo_module(target), target)
    pairs = ((var.name_hint, func) for var, func in mod.functions_items())
    return {name: func for name, func in pairs if isinstance(func, tirx.PrimFunc)}


def four_bit_row() -> Task:
    """A task of the demo model, one row times four bits: panels of 1, 2, 4 (the default) or 8.

    Its other choices are left at their defaults, so that the space is as small as a test wants.
    """
    name = "fused_matmul13_multiply_add"
    task = make_task(name, demo_functions()[name], V3, (Use({}, 64),))
    assert task is not None and task.options["panels"] == (1, 2, 4, 8)
    return replace(task, options={"panels": (1, 2, 4, 8)}, defaults={"panels": 4})
