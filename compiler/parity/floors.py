"""The least ratio of each stage, from the schemes that store its weights."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.storage import Storage
from ..schemes.scheme import Scheme
from .reference.family import Eyes

PIXELS_FLOOR = 120.0  # the same few float32 operations: exact or nearly so
JOINED = 3.0  # of two equal noises together
FRAMES = "frames"
"""The stage in which several video frames become rows."""


@dataclass(frozen=True)
class Floors:
    """`eyes`: None for a model without vision."""

    bundle: Storage
    eyes: Eyes | None

    def storage(self) -> dict[str, float]:
        """Floors against the checkpoint. Where several parts follow each other, their noises add
        up: at most 3 dB below the lowest one."""
        parts = {part: scheme.floor_db for part, scheme in self._schemes.items()}
        logits = min(parts["language"], parts["head"], self.bundle.cache.floor_db)
        tiles = self._of_tiles(parts, JOINED)
        return tiles | {
            "pixels": PIXELS_FLOOR,
            "embed": min(parts["language"], parts["head"]),
            "logits": logits,
            "end_to_end": min(logits, *(parts[part] for part in self._parts)) - JOINED,
        }

    def arithmetic(self) -> dict[str, float]:
        """Floors against the weights as stored. That reference has no cache, so the logits include
        the noise of the cache type. Stages without such a ratio have no floor."""
        parts = {part: scheme.arithmetic_db for part, scheme in self._schemes.items()}
        language = min(parts["language"], parts["head"])
        return self._of_tiles(parts, 0.0) | {
            "embed": language,
            "logits": min(language, self.bundle.cache.floor_db),
        }

    @property
    def _schemes(self) -> dict[str, Scheme]:
        bundle = self.bundle
        return {"language": bundle.language, "vision": bundle.vision, "head": bundle.head}

    @property
    def _parts(self) -> list[str]:
        steps = self.eyes.steps.values() if self.eyes else ()
        return ["language", *(step.scheme for step in steps)]

    def _of_tiles(self, parts: dict[str, float], joined: float) -> dict[str, float]:
        """The floor of each step, and of all steps together."""
        if self.eyes is None:
            return {}
        steps = {stage: parts[step.scheme] for stage, step in self.eyes.steps.items()}
        lost = joined if len(steps) > 1 else 0.0
        frames = {FRAMES: [*steps.values()][-1]} if self.eyes.frames else {}
        return steps | frames | {"encode_image": min(steps.values()) - lost}
