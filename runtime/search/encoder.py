"""A loaded encoder: pictures and texts as rows of length 1, how well they go together, and what the
labels of the model say about a picture."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from handglass.errors import InputError, UsageError

from ..bundle.entries import SIGMOID, EncodersEntry, VisionEntry
from ..bundle.reader import Bundle, read_manifest_text
from ..engine.encoders import EncoderSession
from ..prompt.preprocess import Preprocessor
from ..prompt.texts import TextInput, open_texts

VERIFY_VARIABLE = "HANDGLASS_VERIFY"
SLOT = "{}"
"""Where a template has the label."""


class Towers(Protocol):
    """The part of an EncoderSession that is used here."""

    encoders: EncodersEntry
    vision: VisionEntry | None

    def encode_image(self, strip: np.ndarray, position_ids: np.ndarray) -> np.ndarray: ...

    def encode_text(self, ids: np.ndarray) -> np.ndarray: ...

    def classify(self, row: np.ndarray) -> np.ndarray: ...


class Encoder:
    """Pictures (path, bytes, PIL image, array) and texts as rows (width,) float32 of length 1.

    `is_raw`: with the length that the model gives them.
    """

    def __init__(self, towers: Towers, texts_of: TextInput | None) -> None:
        self._towers, self._texts_of = towers, texts_of
        self._tiles_of = Preprocessor(towers.vision).tiles if towers.vision else None

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], threads: int | None = None, device: str | None = None
    ) -> Encoder:
        """Check and open a bundle; `threads` and `device` are those of the command line.

        Raises InputError for a bundle that is no encoder, else as `Model.load`.
        """
        bundle = Bundle.open(path, os.environ.get(VERIFY_VARIABLE) or "remembered")
        session = EncoderSession(bundle, threads, device)
        return cls(session, open_texts(bundle) if session.encoders.text else None)

    @property
    def reads_pictures(self) -> bool:
        return self._tiles_of is not None

    @property
    def reads_texts(self) -> bool:
        return self._texts_of is not None

    @property
    def own_labels(self) -> tuple[str, ...]:
        """What `own_scores` stand for; empty for a model without labels of its own."""
        return self._towers.encoders.labels

    @property
    def texts_cut(self) -> int:
        """Texts so far whose end was left out, because they were too long for the model."""
        return 0 if self._texts_of is None else self._texts_of.cut

    @property
    def text_tokens(self) -> int:
        """Tokens of all texts so far, without padding."""
        return 0 if self._texts_of is None else self._texts_of.tokens

    @property
    def text_length(self) -> int:
        """Tokens of the longest text; 0 for a model of pictures alone."""
        return 0 if self._texts_of is None else self._texts_of.entry.length

    def picture(self, picture: Any, is_raw: bool = False) -> np.ndarray:
        """Raises InputError for a picture that cannot be read, and for a model of texts alone."""
        row = self._row(picture)
        return finite(row) if is_raw else unit(row)

    def text(self, text: str, is_raw: bool = False) -> np.ndarray:
        """Raises InputError for invalid Unicode, and for a model of pictures alone."""
        if self._texts_of is None:
            raise InputError("this model encodes pictures, no texts")
        row = self._towers.encode_text(self._texts_of(text))
        return finite(row) if is_raw else unit(row)

    def own_scores(self, picture: Any) -> np.ndarray:
        """The scores (labels,) of a picture for the labels of the model, as its head gives them.

        Raises InputError for a model without labels, and as `picture` does.
        """
        return finite(self._towers.classify(self._row(picture)))

    def _row(self, picture: Any) -> np.ndarray:
        if self._tiles_of is None:
            raise InputError("this model encodes texts, no pictures")
        (tile,) = self._tiles_of(picture)
        return self._towers.encode_image(tile.strip, tile.position_ids)

    def scores(self, picture: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """The scores (n,) of a row with the rows (n, width): cosines, scaled and shifted."""
        encoders = self._towers.encoders
        cosines = texts @ picture
        return np.asarray(cosines * np.float32(encoders.scale) + np.float32(encoders.bias))

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Of scores (n,): of each text on its own, or that it is the one of these texts."""
        if self.is_exclusive:
            powers = np.exp(scores - scores.max())
            return np.asarray(powers / powers.sum())
        with np.errstate(over="ignore"):  # the power may be infinite, and the result is 0 then
            return np.asarray(1 / (1 + np.exp(-scores)))

    @property
    def is_exclusive(self) -> bool:
        """Whether probabilities say which one of several texts fits."""
        return self._towers.encoders.score != SIGMOID

    def labels(self, labels: Sequence[str], template: str = SLOT) -> np.ndarray:
        """The rows (n, width) of labels in a template such as "a photo of {}".

        Raises UsageError for a template without exactly one {}, for a single label of a model that
        chooses among several, and for a model that does not compare pictures with texts.
        """
        if not (self.reads_pictures and self.reads_texts):
            own = "; it has labels of its own: omit --label" if self.own_labels else ""
            raise UsageError(f"this model does not compare pictures with texts{own}")
        if template.count(SLOT) != 1:
            raise UsageError(f"--template {template!r:.100}: must have {SLOT} once, for the label")
        if not labels or (self.is_exclusive and len(labels) < 2):
            raise UsageError("give at least two labels: this model says which one of them fits")
        return np.stack([self.text(template.replace(SLOT, label)) for label in labels])


def unit(row: np.ndarray) -> np.ndarray:
    """The row with length 1. Raises InputError for one without a direction."""
    length = float(np.sqrt(np.square(row, dtype=np.float64).sum()))
    if not 0 < length < float("inf"):
        raise InputError("the model gives a row without a direction; is its checkpoint damaged?")
    return np.asarray(row / np.float32(length), np.float32)


def finite(values: np.ndarray) -> np.ndarray:
    """The values. Raises InputError if one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise InputError("the model gives NaN or infinity; is its checkpoint damaged?")
    return values


def identity(bundle: Path) -> str:
    """The hash of a bundle's manifest, which has those of all its files. Raises InputError."""
    return hashlib.sha256(read_manifest_text(bundle)).hexdigest()
