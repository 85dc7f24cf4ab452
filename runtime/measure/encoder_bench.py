"""The rows of an encoder: pictures and texts per second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..engine.encoders import EncoderSession
from . import roofline
from .encoder_steps import FILE_SIZE, EncoderSteps
from .rows import Line, Row, Rows


class EncoderBenchmark(Rows):
    """The rows of one bundle."""

    asked = "row"

    def __init__(
        self,
        session: EncoderSession,
        path: Path,
        threads: int | None,
        quick: bool,
        device: str | None = None,
    ) -> None:
        self.steps = EncoderSteps(session)
        super().__init__(session, self.steps, path, threads, quick, device)

    def _count(self) -> None:
        if self.manifest.vision is not None:
            roofline.encode_flops(self.manifest)
        if self.steps.length:
            roofline.text_flops(self.manifest)

    def _lines(self) -> Iterator[Line]:
        if (vision := self.manifest.vision) is not None:
            yield from self._pictures(vision.image_size)
        if self.steps.length:
            yield self._texts()
        yield from self._process_rows()

    def _pictures(self, side: int) -> Iterator[Line]:
        flops = lambda: roofline.encode_flops(self.manifest)  # noqa: E731
        shown = f"one of {side}x{side}, decoded and resized"
        yield self._row("picture", "pictures/s", self.steps.encode, self._vision, flops, 1, shown)
        note = "one JPEG of {}x{} in memory".format(*FILE_SIZE)
        yield Row("file", "pictures/s", self.steps.file, 1, note=note)

    def _texts(self) -> Line:
        flops = lambda: roofline.text_flops(self.manifest)  # noqa: E731
        long = f"one of {self.steps.length} tokens, the longest"
        return self._row("text", "texts/s", self.steps.text, self._language, flops, 1, long)
