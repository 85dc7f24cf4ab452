"""Recurrent layers on a GPU.

The delta rule (compiler/ops/gpu_delta_rule.py) writes out its nest with workgroups, threads and
shared memory, which delta_choices.py may replace. The stages of the convolution
(gpu_causal_conv.py) have a thread per element.
"""

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..delta_operands import DELTA
from ..rule import Rule, find
from .delta_choices import OFFERS as DELTA_OFFERS
from .delta_choices import choose_delta
from .elementwise import bind_elements, offers

STAGES = 2
"""Most stages of an operator."""


def recurrence(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Choose the nest of the delta rule; bind the stages without threads of their own. Returns
    False if there is no recurrence."""
    found = find(sch, "recurrence")
    for number, block in enumerate(found):
        if sch.get(block).name_hint == DELTA:
            choose_delta(sch, block, target, choices)
        else:
            bind_elements(sch, block, target, choices, number)
    return bool(found)


OFFERS = {**offers(STAGES), **DELTA_OFFERS}
RULE = Rule("vulkan-recurrence", recurrence, frozenset({"recurrence"}), offers=OFFERS)
