"""Signal-to-noise ratios in dB, and what they say about a stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handglass.errors import MismatchError

LIMIT_DB = 300.0  # beyond the resolution of float32

Ratios = dict[str, tuple[float, float | None]]
"""Stage -> SNR against the checkpoint, and against the weights as stored."""


@dataclass(frozen=True)
class Stage:
    """The result of one stage: its lowest ratio over all tiles and pictures."""

    stage: str
    snr_db: float
    floor_db: float
    ok: bool
    arithmetic_db: float | None = None
    """SNR against the weights as stored; None for `pixels` (no weights) and `end_to_end`."""


def report(stages: Sequence[Stage]) -> dict[str, Any]:
    """The stages as JSON. JSON lacks infinity: an exact match is LIMIT_DB and a NaN -LIMIT_DB."""
    rows = [
        {
            "stage": stage.stage,
            "snr_db": _limited(stage.snr_db),
            "floor_db": stage.floor_db,
            "ok": stage.ok,
            "arithmetic_db": _limited(stage.arithmetic_db),
        }
        for stage in stages
    ]
    first = next((stage.stage for stage in stages if not stage.ok), None)
    return {"ok": first is None, "first_short": first, "stages": rows}


def _limited(ratio: float | None) -> float | None:
    return None if ratio is None else max(-LIMIT_DB, min(LIMIT_DB, ratio))


def judge(
    stage: str, ratios: Sequence[tuple[float, float | None]], floor: float, arithmetic_floor: float
) -> Stage:
    """The lowest ratios over all tiles and pictures, and whether both reach their floors."""
    worst = min(ratio for ratio, _ in ratios)
    arithmetic = [ratio for _, ratio in ratios if ratio is not None]
    ok = worst >= floor and all(ratio >= arithmetic_floor for ratio in arithmetic)
    return Stage(stage, worst, floor, ok, min(arithmetic) if arithmetic else None)


def both(truth: np.ndarray, stored: np.ndarray, compiled: np.ndarray) -> tuple[float, float]:
    """SNR against the checkpoint, and against the weights as stored."""
    return snr_db(truth, compiled), snr_db(stored, compiled)


def snr_db(truth: np.ndarray, actual: np.ndarray) -> float:
    """10 log10(signal / noise): infinity if equal, -infinity if `actual` has a NaN or infinity.

    Raises MismatchError if the shapes differ.
    """
    if truth.shape != actual.shape:
        raise MismatchError(f"the reference has shape {truth.shape}, the bundle {actual.shape}")
    if not np.isfinite(actual).all():
        return -math.inf
    signal = float(np.square(truth, dtype=np.float64).sum())
    noise = float(np.square(truth - actual, dtype=np.float64).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
