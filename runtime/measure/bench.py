"""The rows of a bundle that answers questions: a picture, prefills, decoding, the first token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..bundle.probes import READ
from ..engine.session import Session
from . import roofline
from .rows import Line, Rows, Skipped
from .steps import Steps

DECODED = 64  # tokens per sample of a decode row
QUESTION_TOKENS = 16


class Benchmark(Rows):
    """The rows of one bundle."""

    slow = ("pp512", "tg64@2048")

    def __init__(
        self,
        session: Session,
        path: Path,
        threads: int | None,
        quick: bool,
        device: str | None = None,
    ) -> None:
        self.session, self.steps = session, Steps(session)
        self.asked = "picture question" if self.steps.reads_pictures else "question"
        super().__init__(session, self.steps, path, threads, quick, device)

    def _count(self) -> None:
        roofline.decode_params_bytes(self.manifest)
        roofline.prefill_flops(self.manifest, 1)
        if self.steps.reads_pictures:
            roofline.encode_flops(self.manifest)

    def _lines(self) -> Iterator[Line]:
        vision = self.manifest.vision
        if vision is not None:
            tile = f"one tile of {vision.image_size}x{vision.image_size}"
            yield self._row(
                "encode", "ms", self.steps.encode, self._vision, self._encode_flops, note=tile
            )
        for s in (64, 512):
            yield self._prefill_row(s)
        for pos in (0, 512, 2048):
            yield self._decode_row(pos)
        if vision is not None:
            yield self._first_token_row(f"one picture and {QUESTION_TOKENS} tokens")
        yield from self._process_rows()

    def _prefill_row(self, s: int) -> Line:
        name, context = f"pp{s}", self.session.context
        if context < s:
            return Skipped(name, "tok/s", f"needs a context of {s}, this bundle has {context}")
        ids = self.steps.ids(s)
        work = lambda: roofline.prefill_flops(self.manifest, s)  # noqa: E731
        return self._row(
            name, "tok/s", lambda: self.steps.prefill(ids), self._language, work, count=s
        )

    def _decode_row(self, pos: int) -> Line:
        name, context = f"tg{DECODED}@{pos}", self.session.context
        if context < pos + DECODED:
            needed = f"needs a context of {pos + DECODED}, this bundle has {context}"
            return Skipped(name, "tok/s", needed)
        steps = range(pos, pos + DECODED)
        work = lambda: sum(roofline.decode_bytes(self.manifest, p) for p in steps)  # noqa: E731
        return self._row(
            name, "tok/s", lambda: self.steps.decode(pos, DECODED), READ, work, count=DECODED
        )

    def _first_token_row(self, note: str) -> Line:
        s, context = self.steps.picture_rows() + QUESTION_TOKENS, self.session.context
        if context < s:
            return Skipped("ttft", "ms", f"needs a context of {s}, this bundle has {context}")
        ids = self.steps.ids(QUESTION_TOKENS)

        def work() -> float:
            encode = self._encode_flops() * self.steps.picture_tiles()
            return encode + roofline.prefill_flops(self.manifest, s)

        measure = lambda: self.steps.first_token(ids)  # noqa: E731
        return self._row("ttft", "ms", measure, self._vision, work, note=note)

    def _encode_flops(self) -> float:
        return roofline.encode_flops(self.manifest)
