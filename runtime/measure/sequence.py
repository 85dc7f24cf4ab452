"""The time of a step, part by part: what comes before the layers, the layers, what comes after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .blocks import Part, find_parts


def parts_of(
    order: Sequence[str], seconds: Mapping[str, Sequence[float]], steps: int
) -> list[dict[str, Any]]:
    """The parts of a step in order, each with its blocks and the kernels that its blocks call.

    `order`: the kernels that one step calls, (n,). `seconds`: of all calls of each kernel, of one
    step after the other. Empty if the steps did not call the same kernels.
    """
    ms = _call_ms(order, seconds, steps)
    return [] if ms is None else [_part(order, ms, part) for part in find_parts(order)]


def _call_ms(
    order: Sequence[str], seconds: Mapping[str, Sequence[float]], steps: int
) -> np.ndarray | None:
    """(n,): the median milliseconds of each call of a step."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(order):
        places.setdefault(name, []).append(place)
    found = np.zeros(len(order))
    for name, at in places.items():
        spent = seconds.get(name, ())
        if not steps or len(spent) != steps * len(at):
            return None
        found[at] = np.median(np.reshape(spent, (steps, len(at))), axis=0) * 1e3
    return found


def _part(order: Sequence[str], ms: np.ndarray, part: Part) -> dict[str, Any]:
    kernels: dict[str, list[float]] = {}
    for place in range(part.start, part.end):
        kernels.setdefault(order[place], []).append(float(ms[place]))
    blocks = ms[part.start : part.end].reshape(part.count, part.period).sum(axis=1)
    return {
        "blocks": part.count,
        "ms": float(blocks.sum()),
        "block_ms": [float(block) for block in blocks],
        "kernels": [
            {"kernel": name, "calls": len(spent), "ms": sum(spent)}
            for name, spent in kernels.items()
        ],
    }
