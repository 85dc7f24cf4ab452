"""A compiled bundle against its checkpoint, stage by stage, as signal-to-noise ratios in dB.

Each stage is fed the reference's own input, so that the first one that falls short is where the
fault is; `end_to_end` then lets everything run by itself. Two ratios: against the checkpoint in
float32, and against the same weights as stored, which leaves only the arithmetic to be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import MismatchError, UsageError
from handglass.runtime.bundle.reader import Bundle, Manifest
from handglass.runtime.engine.session import Session
from handglass.runtime.prompt.chat_template import Slot, build_prompt
from handglass.runtime.prompt.preprocess import Picture, Tile, open_preprocessor
from handglass.runtime.prompt.tokenizer import Tokenizer, open_tokenizer
from handglass.schedules.isa.integer_isa import AMX
from handglass.schedules.select import ANY_CPU, cpu_units
from handglass.targets.presets.x86 import AMX_FLAGS

from .checkpoints.checkpoint import Checkpoint
from .models import find_family
from .models.config import ModelConfig
from .models.storage import Storage
from .parity import reference
from .parity.reference import Weights
from .parity.stored_weights import StoredWeights
from .schemes.kv_cache import cache_type_of
from .schemes.quantize import find_scheme
from .schemes.scheme import Scheme

Progress = Callable[[str, int, int], object]

QUESTION = "What is this picture?"
STEPS = 8  # tokens decoded after the prompt, and compared one by one

STAGES = ("pixels", "vision", "resampler", "encode_image", "embed", "logits", "end_to_end")

LIMIT_DB = 300.0  # more than float32 can tell apart
PIXELS_FLOOR = 120.0  # the same few float32 operations: exact, or nearly

Ratios = dict[str, tuple[float, float | None]]
"""Stage -> signal to noise against the checkpoint, and against the weights as stored."""


@dataclass(frozen=True)
class _Role:
    """All that the template asks of a tile."""

    role: str


PICTURE = _Role("picture")


@dataclass(frozen=True)
class Stage:
    """How one stage compares: its worst picture."""

    stage: str
    snr_db: float
    floor_db: float
    ok: bool
    arithmetic_db: float | None = None
    """Against the weights as stored; None where no weight takes part, or all have their say."""


def verify(
    bundle: str | Path,
    checkpoint: str | Path,
    images: Sequence[Picture] | None = None,
    progress: Progress | None = None,
    allow_pickle: bool = False,
    device: str | None = None,
) -> list[Stage]:
    """Compare on these pictures, or on a drawn one; `device` as --device has it."""
    opened = Bundle.open(bundle)
    weights = Checkpoint.open(checkpoint, allow_pickle)
    manifest = opened.manifest
    if dict(manifest.model.config) != weights.config:
        raise MismatchError(f"{bundle}: was compiled from another config.json than {checkpoint}'s")
    comparison = Comparison(Session(opened, device=device), weights, manifest, _tokenizer(opened))
    return comparison.run(images or [drawn_picture()], progress or (lambda *_: None))


def report(stages: Sequence[Stage]) -> dict[str, Any]:
    """As JSON, which has no infinity: an exact match reads LIMIT_DB, not-a-number its negative."""
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


class Comparison:
    """One compiled model and one checkpoint."""

    def __init__(
        self, session: Session, weights: Checkpoint, manifest: Manifest, tokenizer: Tokenizer
    ) -> None:
        self.session = session
        self.weights = weights
        self.manifest = manifest
        self.tokenizer = tokenizer
        self.tiles_of = open_preprocessor(manifest)
        family = find_family(weights.config)
        self.model = family.configure(weights.config)
        if not isinstance(self.model, ModelConfig):
            raise UsageError(f"there is no reference in numpy for {family.name}")
        language, vision = self._schemes()
        self.cache = cache_type_of(manifest.state.tensors[0].dtype)
        storage = Storage(language, vision, manifest.state.context, self.cache)
        self.stored = StoredWeights(weights, family.build(weights, self.model, storage))

    def run(self, pictures: Sequence[Picture], progress: Progress) -> list[Stage]:
        """All stages on all pictures; of each stage the worst."""
        found = [
            self._picture(picture, f"picture {number} of {len(pictures)}", progress)
            for number, picture in enumerate(pictures, 1)
        ]
        floors, arithmetic = self._floors(), self._arithmetic_floors()
        return [
            judge(stage, [ratios[stage] for ratios in found], floors[stage], arithmetic[stage])
            for stage in STAGES
        ]

    def _picture(self, picture: Picture, name: str, progress: Progress) -> Ratios:
        (pixels,) = self.tiles_of(picture)
        strip = reference.pixels(picture, self.model.image_size, self.model.vision.patch_size)
        truth = replace(pixels, strip=strip)

        progress(f"{name}, vision", 0, 2)
        features = self._vision(self.weights, truth)
        progress(f"{name}, vision", 1, 2)
        stored_features = self._vision(self.stored, truth)
        compiled_features = self.session.encode_vision(truth.strip, truth.position_ids)

        embeddings = self._resample(self.weights, features, truth)
        resampled = self.session.resample(features, pixels.grid)
        encoded = self.session.encode_image(*truth.arrays)
        stored_encoded = self._resample(self.stored, stored_features, truth)
        ratios: Ratios = {
            "pixels": (snr_db(strip, pixels.strip), None),
            "vision": both(features, stored_features, compiled_features),
            "resampler": both(embeddings, self._resample(self.stored, features, truth), resampled),
            "encode_image": both(embeddings, stored_encoded, encoded),
        }
        return ratios | self._language(pixels, embeddings, name, progress)

    def _language(
        self, pixels: Tile, embeddings: np.ndarray, name: str, progress: Progress
    ) -> Ratios:
        """The compiled model chooses the tokens; the reference is asked about the same ones."""
        language = self.model.language
        ids = self._prompt_ids()
        text = [i for i in ids if i is not None]
        embedded = reference.embed(self.weights, language, text)
        x = splice(ids, embedded, embeddings)
        compiled, tokens = self._decode(x)
        forced = np.concatenate([x, reference.embed(self.weights, language, tokens)])
        truth = self._logits(self.weights, forced, f"{name}, language", progress)
        forced[len(x) :] = reference.embed(self.stored, language, tokens)
        weights = self.stored.with_rows_alone(len(tokens))
        stored = self._logits(weights, forced, f"{name}, language as stored", progress)

        own_text = self.session.embed(text)
        own = splice(ids, own_text, self.session.encode_image(*pixels.arrays))
        return {
            "embed": both(embedded, reference.embed(self.stored, language, text), own_text),
            "logits": both(truth, stored, compiled),
            "end_to_end": (snr_db(truth, self._decode(own, tokens)[0]), None),
        }

    def _vision(self, weights: Weights, pixels: Tile) -> np.ndarray:
        args = (pixels.strip, pixels.height, pixels.width)
        return reference.encode_vision(weights, self.model.vision, *args)

    def _resample(self, weights: Weights, features: np.ndarray, pixels: Tile) -> np.ndarray:
        args = (features, pixels.height, pixels.width)
        return reference.resample(weights, self.model.resampler, *args)

    def _logits(
        self, weights: Weights, x: np.ndarray, phase: str, progress: Progress
    ) -> np.ndarray:
        return reference.logits(
            weights,
            self.model.language,
            x,
            last=STEPS + 1,
            progress=lambda done, total: progress(phase, done, total),
        )

    def _decode(
        self, x: np.ndarray, forced: Sequence[int] | None = None
    ) -> tuple[np.ndarray, list[int]]:
        """Logits after the prompt x and after each of STEPS tokens, the likeliest ones unless
        they are forced. (STEPS + 1, V)"""
        rows = [self.session.prefill(x, 0)]
        tokens: list[int] = []
        for step in range(STEPS):
            tokens.append(int(rows[-1].argmax()) if forced is None else forced[step])
            rows.append(self.session.decode(tokens[-1], len(x) + step).copy())
        return np.stack(rows), tokens

    def _prompt_ids(self) -> list[int | None]:
        """One user turn with one picture; None for each position that the picture takes."""
        template = self.manifest.prompt
        prompt = build_prompt(QUESTION, [None], self.tokenizer, template, lambda _: [PICTURE])
        ids: list[int | None] = []
        for segment in prompt.segments:
            if isinstance(segment, Slot):
                ids.extend([None] * self.model.resampler.query_num)
            else:
                ids.extend(segment.ids)
        return ids

    def _floors(self) -> dict[str, float]:
        """End to end the noise of vision and language adds up: at most 3 dB below the lower."""
        language, vision = (scheme.floor_db for scheme in self._schemes())
        logits = min(language, self.cache.floor_db)
        floors = by_stage(PIXELS_FLOOR, vision, language, min(vision, language) - 3.0)
        return floors | {"logits": logits, "end_to_end": min(vision, logits) - 3.0}

    def _arithmetic_floors(self) -> dict[str, float]:
        """The reference of the weights as stored has no cache, so that one's noise is in here."""
        language, vision = (scheme.arithmetic_db for scheme in self._schemes())
        floors = by_stage(PIXELS_FLOOR, vision, language, min(vision, language))
        return floors | {"logits": min(language, self.cache.floor_db)}

    def _schemes(self) -> tuple[Scheme, Scheme]:
        """Of language and vision, as the bundle's target multiplies them."""
        tiles = set(AMX_FLAGS) <= set(self.manifest.target.features)
        units = cpu_units(AMX) if tiles else ANY_CPU
        names = self.manifest.scheme["language"], self.manifest.scheme["vision"]
        language, vision = (find_scheme(name, units) for name in names)
        return language, vision


def by_stage(pixels: float, vision: float, language: float, joined: float) -> dict[str, float]:
    """A value for every stage: those of the language's scheme, and those where both take part."""
    return dict.fromkeys(STAGES, language) | {
        "pixels": pixels, "vision": vision, "encode_image": joined, "end_to_end": joined
    }  # fmt: skip


def judge(
    stage: str, found: Sequence[tuple[float, float | None]], floor: float, arithmetic_floor: float
) -> Stage:
    """The worst of all pictures, and whether both of its ratios are good enough."""
    worst = min(ratio for ratio, _ in found)
    arithmetic = [ratio for _, ratio in found if ratio is not None]
    ok = worst >= floor and all(ratio >= arithmetic_floor for ratio in arithmetic)
    return Stage(stage, worst, floor, ok, min(arithmetic) if arithmetic else None)


def both(truth: np.ndarray, stored: np.ndarray, compiled: np.ndarray) -> tuple[float, float]:
    """Signal to noise against the checkpoint, and against the weights as stored."""
    return snr_db(truth, compiled), snr_db(stored, compiled)


def snr_db(truth: np.ndarray, actual: np.ndarray) -> float:
    """10 log10 of signal over noise: infinite if equal, minus infinity if anything is NaN."""
    if truth.shape != actual.shape:
        raise MismatchError(f"the reference gives {truth.shape}, the compiled code {actual.shape}")
    if not np.isfinite(actual).all():
        return -math.inf
    signal = float(np.square(truth, dtype=np.float64).sum())
    noise = float(np.square(truth - actual, dtype=np.float64).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def splice(ids: Sequence[int | None], text: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Rows of the text and of the picture in the order of the prompt. (s, D)"""
    is_picture = np.array([i is None for i in ids])
    x = np.empty((len(ids), text.shape[1]), np.float32)
    x[~is_picture] = text
    x[is_picture] = picture
    return x


def drawn_picture() -> np.ndarray:
    """Soft colours under sharp squares, always the same. (h, w, 3) uint8"""
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(96, 256, (8, 8, 3)), np.ones((56, 56, 1))).astype(np.uint8)
    for y, x, side in rng.integers((0, 0, 40), (300, 300, 140), (6, 3)):
        picture[y : y + side, x : x + side] = rng.integers(0, 256, 3)
    return picture


def _tokenizer(bundle: Bundle) -> Tokenizer:
    entry = bundle.manifest.tokenizer
    return open_tokenizer(entry.kind, bundle.file(entry.file))
