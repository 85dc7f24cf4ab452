"""Signal-to-noise ratios in dB, and what they say about a stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from handglass.errors import MismatchError

LIMIT_DB = 300.0  # beyond the resolution of float32
EXPLAINED_DB = 1.0
"""How far above a floor the loss of storage explains a shortfall below it: the noise of the
arithmetic comes on top."""
DISTURBED_DB = 3.0
"""Of two equal noises: of the disturbance, and of the arithmetic that it stands for."""


@dataclass(frozen=True)
class Ratio:
    """What one comparison found; None where a ratio was not needed or no weights are stored."""

    snr_db: float
    """The bundle against the checkpoint."""
    arithmetic_db: float | None = None
    """The bundle against the reference with the weights as stored."""
    storage_db: float | None = None
    """The reference with the weights as stored against the checkpoint."""
    rounding_db: float | None = None
    """The reference with the weights as stored against itself after the least change of its input:
    what rounding, to integers above all, makes of differences in the last digits."""

    def holds(self, floor: float, arithmetic_floor: float) -> bool:
        """Whether the bundle has no fault: its arithmetic is right, and what it has lost is not
        more than the weights as stored have."""
        if self.rounding_db is not None:
            arithmetic_floor = min(arithmetic_floor, self.rounding_db - DISTURBED_DB)
        if self.arithmetic_db is not None and self.arithmetic_db < arithmetic_floor:
            return False
        if self.snr_db >= floor:
            return True
        is_explained = self.storage_db is not None and self.storage_db < floor + EXPLAINED_DB
        return is_explained and self.snr_db > -math.inf


Ratios = dict[str, Ratio]
"""Stage -> what was found."""


@dataclass(frozen=True)
class Layer:
    """The stored weights of one layer: the tensor that is nearest to its floor, or below."""

    layer: str
    snr_db: float
    floor_db: float
    tensor: str


@dataclass(frozen=True)
class Arrival:
    """The rows that arrive at a layer, or at the norm after the last one: what all layers before it
    have lost together."""

    layer: str
    snr_db: float
    """The bundle against the checkpoint."""
    arithmetic_db: float
    """The bundle against the reference with the weights as stored."""


@dataclass(frozen=True)
class Stage:
    """The result of one stage: its lowest ratio over all tiles and pictures."""

    stage: str
    snr_db: float
    floor_db: float
    ok: bool
    """Whether there is no fault; the storage may still lose more than usual."""
    arithmetic_db: float | None = None
    """SNR against the weights as stored; None for `pixels` (no weights), `weights` and
    `end_to_end`."""
    tensor: str = ""
    """Of `weights`: the one that has lost most."""
    layers: tuple[Layer, ...] = ()
    """Of `weights`: what each layer has lost."""
    arrivals: tuple[Arrival, ...] = ()
    """Of a stage with layers: what arrives at each of them."""

    @property
    def is_lossy(self) -> bool:
        """Whether the storage loses more than its floor, without a fault."""
        return self.ok and self.snr_db < self.floor_db


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
    lossy = [stage.stage for stage in stages if stage.is_lossy]
    layers = [
        {**asdict(layer), "snr_db": _limited(layer.snr_db)}
        for stage in stages
        for layer in stage.layers
    ]
    arrivals = [
        {
            "layer": each.layer,
            "snr_db": _limited(each.snr_db),
            "arithmetic_db": _limited(each.arithmetic_db),
        }
        for stage in stages
        for each in stage.arrivals
    ]
    found = {"ok": first is None, "first_fault": first, "lossy": lossy}
    return {**found, "stages": rows, "layers": layers, "arrivals": arrivals}


def _limited(ratio: float | None) -> float | None:
    return None if ratio is None else max(-LIMIT_DB, min(LIMIT_DB, ratio))


def judge(stage: str, ratios: Sequence[Ratio], floor: float, arithmetic_floor: float) -> Stage:
    """The lowest ratios over all tiles and pictures, and whether all hold."""
    worst = min(ratio.snr_db for ratio in ratios)
    arithmetic = [ratio.arithmetic_db for ratio in ratios if ratio.arithmetic_db is not None]
    ok = all(ratio.holds(floor, arithmetic_floor) for ratio in ratios)
    return Stage(stage, worst, floor, ok, min(arithmetic) if arithmetic else None)


def compared(truth: np.ndarray, stored: np.ndarray, compiled: np.ndarray) -> Ratio:
    """The results of the reference, of the reference with the weights as stored, and of the
    bundle."""
    return Ratio(snr_db(truth, compiled), snr_db(stored, compiled), snr_db(truth, stored))


def snr_db(truth: np.ndarray, actual: np.ndarray) -> float:
    """10 log10(signal / noise): infinity if equal, -infinity if `actual` has a NaN or infinity.

    Raises MismatchError if the shapes differ.
    """
    if truth.shape != actual.shape:
        raise MismatchError(f"the reference has shape {truth.shape}, the bundle {actual.shape}")
    if not np.isfinite(actual).all():
        return -math.inf
    return ratio_db(energy(truth), energy(truth - actual))


def energy(x: np.ndarray) -> float:
    """The sum of squares."""
    return float(np.square(x, dtype=np.float64).sum())


def ratio_db(signal: float, noise: float) -> float:
    """Of two energies: infinity without noise."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
