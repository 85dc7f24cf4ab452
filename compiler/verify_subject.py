"""What `handglass verify` compares: one compiled model and its checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from handglass.errors import UsageError
from handglass.runtime.bundle.entries import GRIDS, VisionEntry
from handglass.runtime.bundle.reader import Manifest
from handglass.runtime.engine.session import Session
from handglass.schedules.isa.integer_isa import AMX
from handglass.schedules.select import ANY_CPU, BF16_DOT, Units, cpu_units
from handglass.targets.presets.x86 import AMX_FLAGS

from .checkpoints.checkpoint import Checkpoint
from .models import Family, find_family
from .models.matching import build_for
from .models.storage import storage_of
from .parity.floors import Floors
from .parity.ratios import Ratio, compared, snr_db
from .parity.reference import Reference
from .parity.stored_weights import StoredWeights

Progress = Callable[[str, int, int], object]


class Subject:
    """The compiled model in `session`, and the reference with the weights of the checkpoint
    (`weights`) and with the same as stored (`stored`)."""

    def __init__(self, session: Session, weights: Checkpoint, manifest: Manifest) -> None:
        self.session = session
        self.weights = weights
        self.manifest = manifest
        family = find_family(weights.config)
        model = family.configure(weights.config)
        self.reference = reference_of(family, model, manifest.vision)
        storage = storage_of(manifest, units_of(manifest))
        self.floors = Floors(storage, self.reference.eyes)
        self.stored = StoredWeights(weights, build_for(weights, family, model, storage))

    def compared(
        self,
        stage: str,
        truth: np.ndarray,
        stored: np.ndarray,
        compiled: np.ndarray,
        again: Callable[[], np.ndarray],
    ) -> Ratio:
        """`again` computes `stored` from a disturbed input, if the ratio of the arithmetic is
        below its floor."""
        found = compared(truth, stored, compiled)
        if found.arithmetic_db is None or found.arithmetic_db >= self.floors.arithmetic()[stage]:
            return found
        return replace(found, rounding_db=snr_db(stored, again()))


BF16_FLAGS = frozenset({"avx512_bf16", "bf16"})
"""Linux's names of dot products of bfloat16, on x86-64 and aarch64."""


def units_of(manifest: Manifest) -> Units:
    """For which weights are laid out and rows are rounded: by tile registers, or by dot products of
    bfloat16, as far as attention goes. The host of a GPU bundle does neither."""
    features = set(manifest.target.features if manifest.target.is_cpu else ())
    if set(AMX_FLAGS) <= features:
        return cpu_units(AMX)
    if not BF16_FLAGS & features:
        return ANY_CPU
    return replace(ANY_CPU, kinds=(BF16_DOT, *ANY_CPU.kinds))


def reference_of(family: Family, config: Any, vision: VisionEntry | None = None) -> Reference:
    """`vision` says which small pictures are enlarged, if the family has a choice. Raises
    UsageError for a family without a reference."""
    if not family.reference:
        raise UsageError(f"the model family '{family.name}' has no numpy reference")
    choice = (GRIDS[vision.slicing.kind],) if vision and family.keeps_small_pictures else ()
    made: Reference = import_module(family.reference).reference(config, *choice)
    return made
