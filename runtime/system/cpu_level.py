"""Leaves instruction sets of this CPU unused, so that it stands in for a lesser one.

HANDGLASS_CPU_LEVEL names the highest level to use, and what is above it is taken away from what
Linux tells. Nothing is ever added: a CPU that does not reach the level keeps what it has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from handglass.errors import UsageError

VARIABLE = "HANDGLASS_CPU_LEVEL"

NOTHING = r"(?!)"
BEYOND: dict[str, dict[str, str]] = {
    "x86_64": {
        "avx2": r"avx_|avx512|avx10|amx_",
        "avx-vnni": r"avx512|avx10|amx_",
        # as the first servers with it: none of what came later
        "avx512": r"avx_|avx512(?!(f|bw|cd|dq|vl)$)|avx10|amx_",
        "avx512-vnni": r"amx_",
        "amx": NOTHING,
    },
    "aarch64": {
        "neon": r"asimddp$|asimdhp$|asimdrdm$|asimdfhm$|fphp$|fcma$|atomics$|i8mm$|bf16$|sve|sme",
        "dotprod": r"i8mm$|bf16$|sve|sme",
        "i8mm": NOTHING,
    },
}
"""Architecture -> level, the least first -> flags that are taken away: their beginnings, or where
the name ends in $ the whole of them."""


def within_level(
    architecture: str, flags: frozenset[str], environment: Mapping[str, str] = os.environ
) -> frozenset[str]:
    """The flags that may be used; UsageError for a level that is not known."""
    level = environment.get(VARIABLE, "")
    return without_beyond(architecture, level, flags) if level else flags


def without_beyond(architecture: str, level: str, flags: frozenset[str]) -> frozenset[str]:
    """The flags less those beyond the level."""
    known = BEYOND.get(architecture, {})
    if level not in known:
        raise UsageError(
            f"{VARIABLE}={level}: no level of {architecture}; known: {', '.join(known) or 'none'}"
        )
    beyond = re.compile(known[level])
    return frozenset(flag for flag in flags if not beyond.match(flag))
