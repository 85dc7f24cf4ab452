"""Recurrent layers on a GPU.

The delta rule (compiler/ops/gpu_delta_rule.py) writes out its nest with workgroups, threads and
shared memory, and is left as it is. The stages of the convolution (gpu_causal_conv.py) have a
thread per element.
"""

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, find
from .elementwise import bind_elements, offers

STAGES = 2
"""Most stages of an operator."""


def recurrence(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Bind the stages without threads of their own. Returns False if there is no recurrence."""
    found = find(sch, "recurrence")
    for number, block in enumerate(found):
        if not _is_for_threads(sch, block):
            bind_elements(sch, block, target, choices, number)
    return bool(found)


def _is_for_threads(sch: Schedule, block) -> bool:
    return sch.get(sch.get_loops(block)[0]).kind == tirx.ForKind.THREAD_BINDING


RULE = Rule("vulkan-recurrence", recurrence, frozenset({"recurrence"}), offers=offers(STAGES))
