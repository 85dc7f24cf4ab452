"""Written-out loops whose outermost one runs its tasks in parallel: a recurrent layer, where each
task goes through all positions, and the experts that tokens chose.

The operators (compiler/ops/delta_rule.py, causal_conv.py, expert_matmul.py, routing.py) vectorize
their own columns.
"""

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, find


def recurrence(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Run the tasks of the block in parallel. Returns False if the function has no such block."""
    found = [block for pattern in PATTERNS for block in find(sch, pattern)]
    for block in found:
        (task,) = [block] if sch.get_loops(block) else sch.get_child_blocks(block)
        sch.parallel(sch.get_loops(task)[0])
    return bool(found)


PATTERNS = ("recurrence", "experts")
RULE = Rule("cpu-recurrence", recurrence, frozenset(PATTERNS))
