"""The measured steps of an encoder: a picture, a text, a picture in a file; all are random."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from ..bundle.entries import VisionEntry
from ..engine.encoders import EncoderSession
from ..engine.session import Session
from ..prompt.preprocess import Preprocessor
from .steps import Steps, timed

FILE_SIZE = (640, 480)
"""Pixels of the picture in a file."""


class EncoderSteps:
    """Runs steps of a session; the step methods return the seconds taken."""

    def __init__(self, session: EncoderSession) -> None:
        self.session, self._random = session, np.random.default_rng(0)
        self.length = 0
        """Tokens of the longest text; 0 if the model takes none."""
        if session.vision is not None:
            self._make_pictures(session.vision)
        if session.encoders.text is not None:
            self.length = session.encoders.text.length
            vocabulary = session.manifest.vocab_size
            self._ids = self._random.integers(0, vocabulary, self.length).astype(np.int32)

    def _make_pictures(self, vision: VisionEntry) -> None:
        self._tiles_of, side = Preprocessor(vision).tiles, vision.image_size
        (self._tile,) = self._tiles_of(self._noise(side, side))
        self._file = io.BytesIO()
        Image.fromarray(self._noise(*FILE_SIZE)).save(self._file, "JPEG", quality=90)

    def _noise(self, width: int, height: int) -> np.ndarray:
        return self._random.integers(0, 256, (height, width, 3), np.uint8)

    def prepare(self) -> None:
        """Warm up: touch the pages of parameters, start the thread pool."""
        for _, step in self.phases():
            step()

    def phases(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """The steps whose kernels are timed, by their names."""
        if self.session.vision is not None:
            yield "encode", self.encode
        if self.length:
            yield f"text {self.length}", self.text

    def encode(self) -> float:
        """One picture, which is decoded and resized already."""
        strip, position_ids = self._tile.strip, self._tile.position_ids
        return timed(lambda: self.session.encode_image(strip, position_ids))

    def text(self) -> float:
        """One text that is as long as texts can be."""
        return timed(lambda: self.session.encode_text(self._ids))

    def file(self) -> float:
        """One picture, from the bytes of a JPEG file in memory."""

        def encode() -> None:
            (tile,) = self._tiles_of(self._file.getvalue())
            self.session.encode_image(tile.strip, tile.position_ids)

        return timed(encode)


def steps_of(session: Session | EncoderSession) -> Steps | EncoderSteps:
    """The steps of either kind of bundle."""
    return EncoderSteps(session) if isinstance(session, EncoderSession) else Steps(session)
