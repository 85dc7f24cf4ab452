"""The stages of an encoder: the pixels of pictures, the rows of pictures and of texts, and the
scores of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol

import numpy as np

from handglass.errors import UsageError
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.engine.encoders import EncoderSession
from handglass.runtime.prompt.preprocess import Picture, Preprocessor
from handglass.runtime.prompt.texts import open_texts

from .checkpoints.checkpoint import Checkpoint
from .models import find_family
from .models.matching import build_for
from .models.storage import storage_of
from .parity.floors import PIXELS_FLOOR
from .parity.inputs import disturbed, drawn_picture
from .parity.ratios import Ratio, Ratios, Stage, compared, judge, snr_db
from .parity.reference.arithmetic import Weights
from .parity.reference.pixels import Pixels
from .parity.stored_weights import StoredWeights
from .verify_subject import Progress, units_of

TEXTS = (
    "a photo of a red circle",
    "\u4e00\u53ea\u732b",
    "A much longer text, about nothing. " * 20,
)
"""What every text tower is compared on."""
STAGES = ("pixels", "encode_image", "classify", "encode_text")


class Reference(Protocol):
    """Numpy code of the towers that a bundle has; `weights` are a checkpoint, or as stored."""

    def pixels(self, picture: Picture) -> Pixels: ...

    def encode_image(self, weights: Weights, strip: np.ndarray) -> np.ndarray: ...

    def classify(self, weights: Weights, row: np.ndarray) -> np.ndarray: ...

    def embed(self, weights: Weights, ids: np.ndarray) -> np.ndarray: ...

    def encode_text(self, weights: Weights, x: np.ndarray) -> np.ndarray: ...


def verify_encoders(
    bundle: Bundle,
    weights: Checkpoint,
    pictures: Sequence[Picture] | None,
    progress: Progress,
    device: str | None,
) -> list[Stage]:
    """Compare on `pictures`, by default on a generated one, and on TEXTS. Raises UsageError for
    pictures that the model does not take."""
    encoders = Encoders(bundle, weights, device)
    if bundle.manifest.vision is None and pictures:
        raise UsageError("this model takes no pictures; verify it without --image")
    drawn = [drawn_picture()] if bundle.manifest.vision else []
    return encoders.run(pictures or drawn, progress)


class Encoders:
    """One compiled model, and the reference with the weights of the checkpoint and as stored."""

    def __init__(self, bundle: Bundle, weights: Checkpoint, device: str | None) -> None:
        manifest = bundle.manifest
        self.session = EncoderSession(bundle, device=device)
        self.texts_of = open_texts(bundle) if self.session.encoders.text else None
        self.tiles_of = Preprocessor(manifest.vision).tiles if manifest.vision else None
        self.weights = weights
        family = find_family(weights.config)
        config = family.configure(weights.config)
        self.storage = storage_of(manifest, units_of(manifest))
        self.stored = StoredWeights(weights, build_for(weights, family, config, self.storage))
        module = import_module(family.reference)
        self.reference: Reference = module.reference(config, manifest.vision, weights)

    def run(self, pictures: Sequence[Picture], progress: Progress) -> list[Stage]:
        """The result of every stage: its lowest ratio over all pictures and texts."""
        found: list[Ratios] = []
        texts = TEXTS if self.texts_of else ()
        total = len(pictures) + len(texts)
        for number, picture in enumerate(pictures):
            progress("compare", number, total)
            found.append(self._picture(picture))
        for number, text in enumerate(texts, len(pictures)):
            progress("compare", number, total)
            found.append({"encode_text": self._text(text)})
        vision, language = self.storage.vision, self.storage.language
        floors = {
            "pixels": (PIXELS_FLOOR, 0.0),
            "encode_image": (vision.floor_db, vision.arithmetic_db),
            "classify": (vision.floor_db, vision.arithmetic_db),
            "encode_text": (language.floor_db, language.arithmetic_db),
        }
        stages = [
            judge(stage, ratios, *floors[stage])
            for stage in STAGES
            if (ratios := [one[stage] for one in found if stage in one])
        ]
        return [self.stored.losses.stage(), *stages]

    def _picture(self, picture: Picture) -> Ratios:
        assert self.tiles_of is not None  # the caller has looked
        (tile,), truth = self.tiles_of(picture), self.reference.pixels(picture)
        exact, kept, again = self._three(self.reference.encode_image, truth.strip)
        row = self.session.encode_image(truth.strip, tile.position_ids)
        ratios = {
            "pixels": Ratio(snr_db(truth.strip, tile.strip)),
            "encode_image": _compared(exact, kept, again, row),
        }
        if self.session.encoders.labels:
            row = np.asarray(exact, np.float32)
            exact, kept, again = self._three(self.reference.classify, row)
            ratios["classify"] = _compared(exact, kept, again, self.session.classify(row))
        return ratios

    def _three(self, compute: Callable[..., np.ndarray], given: np.ndarray) -> list[np.ndarray]:
        """The result with the weights of the checkpoint, as stored, and as stored of a disturbed
        input."""
        inputs = (self.weights, given), (self.stored, given), (self.stored, disturbed(given))
        return [compute(weights, x) for weights, x in inputs]

    def _text(self, text: str) -> Ratio:
        assert self.texts_of is not None  # the caller has looked
        ids, encode = self.texts_of(text), self.reference.encode_text
        exact, kept = (self.reference.embed(w, ids) for w in (self.weights, self.stored))
        again = encode(self.stored, disturbed(kept))
        row = self.session.encode_text(ids)
        return _compared(encode(self.weights, exact), encode(self.stored, kept), again, row)


def _compared(exact: np.ndarray, kept: np.ndarray, again: np.ndarray, row: np.ndarray) -> Ratio:
    """`again`: the result with the weights as stored of a disturbed input, which tells how much of
    a difference rounding explains."""
    found = compared(exact, kept, row)
    return Ratio(found.snr_db, found.arithmetic_db, found.storage_db, snr_db(kept, again))
