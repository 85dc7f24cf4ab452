"""Which code of a bundle a GPU can run, by architecture, as module.cc chooses it.

sm_86 is machine code for compute capability 8.6. Chips of 8.7 to 8.9 run it, too, except that the
chips of Jetsons and others do not run each other's. compute_86 is PTX, which the driver compiles
for any chip of at least 8.6.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

TEGRA = frozenset({72, 87, 101, 110})
"""Compute capabilities of Jetsons."""


def why_unfit(images: Sequence[str], capability: int) -> str:
    """Why a GPU of `capability` (87 is 8.7) can run none of the images; empty if it can."""
    if not images or any(runs(image, capability) for image in images):
        return ""
    least = min((number for kind, number in map(parsed, images) if kind == "compute"), default=0)
    older = f", and its PTX is for compute capability {dotted(least)} and later" if least else ""
    return (
        f"it has compute capability {dotted(capability)}, and the bundle has code for "
        f"{', '.join(images)}{older}"
    )


def runs(image: str, capability: int) -> bool:
    """Whether a GPU of `capability` runs the image."""
    kind, number = parsed(image)
    if kind == "compute":
        return number <= capability
    same_family = (number in TEGRA) == (capability in TEGRA)
    return number == capability or (
        kind == "sm" and same_family and number // 10 == capability // 10 and number < capability
    )


def parsed(image: str) -> tuple[str, int]:
    """("sm", 87) of "sm_87"; ("", 0) of anything else."""
    match = re.fullmatch("(sm|compute)_([0-9]{2,3})", image)
    return (match[1], int(match[2])) if match else ("", 0)


def dotted(capability: int) -> str:
    return f"{capability // 10}.{capability % 10}"
