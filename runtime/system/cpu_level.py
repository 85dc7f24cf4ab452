"""Masks CPU flags, so that this machine behaves like one with fewer instruction sets.

HANDGLASS_CPU_LEVEL names the highest level to use; flags above it are removed from those that Linux
reports. Flags are never added: a CPU below the level keeps its own.
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
        # the features of the first servers with AVX-512, without later extensions
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
"""Architecture -> level, lowest first -> pattern of the flags to remove, matched at the start."""


def within_level(
    architecture: str, flags: frozenset[str], environment: Mapping[str, str] = os.environ
) -> frozenset[str]:
    """The flags that may be used. Raises UsageError for an unknown level."""
    level = environment.get(VARIABLE, "")
    return without_beyond(architecture, level, flags) if level else flags


def without_beyond(architecture: str, level: str, flags: frozenset[str]) -> frozenset[str]:
    """The flags without those above the level."""
    known = BEYOND.get(architecture, {})
    if level not in known:
        raise UsageError(
            f"{VARIABLE}={level}: no level of {architecture}; known: {', '.join(known) or 'none'}"
        )
    beyond = re.compile(known[level])
    return frozenset(flag for flag in flags if not beyond.match(flag))
