"""Written-out loops over the positions of a recurrent layer: tasks run in parallel, each through
all positions.

The operators (compiler/ops/delta_rule.py, causal_conv.py) vectorize their own columns.
"""

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, find


def recurrence(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Run the tasks of the block in parallel. Returns False if the function has no such block."""
    found = find(sch, "recurrence")
    for block in found:
        sch.parallel(sch.get_loops(block)[0])
    return bool(found)


RULE = Rule("cpu-recurrence", recurrence, frozenset({"recurrence"}))
