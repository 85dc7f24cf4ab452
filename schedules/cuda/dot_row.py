"""One row times integers (decode) on an NVIDIA GPU: the schedule of all GPUs, with its defaults.

Unless the row is copied to shared memory, every sector of it is requested by two loads, and once
per panel of 16 outputs: a quarter of what 4-bit weights take. Copied once per two panels, it is a
sixteenth, for a barrier. Counted on the emulator (docs/cuda.md), not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..gpu import dot, one_row
from ..rule import Rule, find
from ..tiling import is_one

PATTERNS = ("dot4", "dot7", "dot8")
PREFERRED = {"staged": 1, "panels": 2}


@dataclass(frozen=True)
class Preferring:
    """Answers like `choices`, with other defaults."""

    choices: Choices

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int):
        return self.choices.pick(sch, name, options, PREFERRED.get(name, default))


def dot_row(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule one row times words of codes; returns False for many rows or other products."""
    if not any(find(sch, pattern) for pattern in PATTERNS):
        return False
    rows = find(sch, "rows")[0]
    one = is_one(sch.get(sch.get_loops(rows)[0]).extent)
    return one and dot.dot(sch, target, Preferring(choices))


RULE = Rule("cuda-dot-row", dot_row, frozenset(PATTERNS), offers=one_row.OFFERS)
