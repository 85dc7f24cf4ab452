"""Compare a bundle with its checkpoint, stage by stage, as signal-to-noise ratios (SNR) in dB.

Each stage receives the input of the reference, so the first stage below its floor contains the
fault; `end_to_end` then runs the compiled model alone. There are two ratios: against the checkpoint
in float32, and against the weights as stored, which isolates errors of the arithmetic.
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
from handglass.runtime.prompt.tokenizer import Tokenizer, parse_tokenizer
from handglass.schedules.isa.integer_isa import AMX
from handglass.schedules.select import ANY_CPU, cpu_units
from handglass.targets.presets.x86 import AMX_FLAGS

from .checkpoints.checkpoint import Checkpoint
from .checkpoints.opening import open_checkpoint
from .models import find_family
from .models.matching import build_for
from .models.release import ModelConfig
from .models.storage import Storage
from .parity import reference
from .parity.reference import Weights
from .parity.stored_weights import StoredWeights
from .schemes.kv_cache import cache_type_of
from .schemes.quantize import find_scheme
from .schemes.scheme import Scheme

Progress = Callable[[str, int, int], object]

QUESTION = "What is this picture?"
STEPS = 8  # tokens that are decoded after the prompt and compared one by one

STAGES = ("pixels", "vision", "resampler", "encode_image", "embed", "logits", "end_to_end")

LIMIT_DB = 300.0  # beyond the resolution of float32
PIXELS_FLOOR = 120.0  # the same few float32 operations: exact or nearly so

Ratios = dict[str, tuple[float, float | None]]
"""Stage -> SNR against the checkpoint, and against the weights as stored."""


@dataclass(frozen=True)
class _Role:
    """The only tile attribute that the prompt template reads."""

    role: str


PICTURE = _Role("picture")


@dataclass(frozen=True)
class Stage:
    """The result of one stage: its lowest ratio over all images."""

    stage: str
    snr_db: float
    floor_db: float
    ok: bool
    arithmetic_db: float | None = None
    """SNR against the weights as stored; None for `pixels` (no weights) and `end_to_end`."""


def verify(
    bundle: str | Path,
    checkpoint: str | Path,
    images: Sequence[Picture] | None = None,
    progress: Progress | None = None,
    allow_pickle: bool = False,
    device: str | None = None,
) -> list[Stage]:
    """Compare on `images`, by default on a generated one. `device` is the value of --device.

    Raises MismatchError if the bundle was compiled from another config.json, and UsageError if the
    model family has no numpy reference.
    """
    opened = Bundle.open(bundle)
    weights = open_checkpoint(checkpoint, allow_pickle)
    manifest = opened.manifest
    if dict(manifest.model.config) != weights.config:
        raise MismatchError(
            f"{bundle}: its configuration differs from config.json of {checkpoint}; pass the "
            "checkpoint that it was compiled from"
        )
    comparison = Comparison(Session(opened, device=device), weights, manifest, _tokenizer(opened))
    return comparison.run(images or [drawn_picture()], progress or (lambda *_: None))


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
            raise UsageError(f"the model family '{family.name}' has no numpy reference")
        language, vision = self._schemes()
        self.cache = cache_type_of(manifest.state.cache_dtype)
        storage = Storage(language, vision, manifest.state.context, self.cache)
        self.stored = StoredWeights(weights, build_for(weights, family, self.model, storage))

    def run(self, pictures: Sequence[Picture], progress: Progress) -> list[Stage]:
        """The result of every stage: its lowest ratio over all pictures."""
        by_picture = [
            self._picture(picture, f"picture {number} of {len(pictures)}", progress)
            for number, picture in enumerate(pictures, 1)
        ]
        floors, arithmetic = self._floors(), self._arithmetic_floors()
        return [
            judge(stage, [ratios[stage] for ratios in by_picture], floors[stage], arithmetic[stage])
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
        """The compiled model generates the tokens; the reference gets the same ones."""
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
        """Logits (STEPS + 1, V) after the prompt x and after each of STEPS tokens, and the tokens:
        `forced`, or else the most likely ones."""
        rows = [self.session.prefill(x, 0)]
        tokens: list[int] = []
        for step in range(STEPS):
            tokens.append(int(rows[-1].argmax()) if forced is None else forced[step])
            rows.append(self.session.decode(tokens[-1], len(x) + step).copy())
        return np.stack(rows), tokens

    def _prompt_ids(self) -> list[int | None]:
        """Token ids of a user turn with one image; None for each position of the image."""
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
        """Floors against the checkpoint. End to end, the noise of vision and language adds up:
        at most 3 dB below the lower one."""
        language, vision = (scheme.floor_db for scheme in self._schemes())
        logits = min(language, self.cache.floor_db)
        floors = by_stage(PIXELS_FLOOR, vision, language, min(vision, language) - 3.0)
        return floors | {"logits": logits, "end_to_end": min(vision, logits) - 3.0}

    def _arithmetic_floors(self) -> dict[str, float]:
        """Floors against the weights as stored. That reference has no cache, so the logits include
        the noise of the cache type."""
        language, vision = (scheme.arithmetic_db for scheme in self._schemes())
        floors = by_stage(PIXELS_FLOOR, vision, language, min(vision, language))
        return floors | {"logits": min(language, self.cache.floor_db)}

    def _schemes(self) -> tuple[Scheme, Scheme]:
        """The schemes of language and vision, laid out for the bundle's target."""
        tiles = set(AMX_FLAGS) <= set(self.manifest.target.features)
        units = cpu_units(AMX) if tiles else ANY_CPU
        names = self.manifest.scheme["language"], self.manifest.scheme["vision"]
        language, vision = (find_scheme(name, units) for name in names)
        return language, vision


def by_stage(pixels: float, vision: float, language: float, joined: float) -> dict[str, float]:
    """A value for each stage; `joined` is for stages that use both schemes."""
    return dict.fromkeys(STAGES, language) | {
        "pixels": pixels, "vision": vision, "encode_image": joined, "end_to_end": joined
    }  # fmt: skip


def judge(
    stage: str, ratios: Sequence[tuple[float, float | None]], floor: float, arithmetic_floor: float
) -> Stage:
    """The lowest ratios over all images, and whether both reach their floors."""
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


def splice(ids: Sequence[int | None], text: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Merge the embeddings of text and image in the order of the prompt. (s, D)"""
    is_picture = np.array([i is None for i in ids])
    x = np.empty((len(ids), text.shape[1]), np.float32)
    x[~is_picture] = text
    x[is_picture] = picture
    return x


def drawn_picture() -> np.ndarray:
    """A fixed test image: soft colours under sharp squares. (h, w, 3) uint8"""
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(96, 256, (8, 8, 3)), np.ones((56, 56, 1))).astype(np.uint8)
    for y, x, side in rng.integers((0, 0, 40), (300, 300, 140), (6, 3)):
        picture[y : y + side, x : x + side] = rng.integers(0, 256, 3)
    return picture


def _tokenizer(bundle: Bundle) -> Tokenizer:
    """The tokenizer without reserved strings."""
    entry = bundle.manifest.tokenizer
    return parse_tokenizer(entry.kind, bundle.read(entry.file), bundle.file(entry.file))
