"""What a user holds: a loaded bundle that answers questions about pictures.

Ties the rest of the room together: pictures are encoded once, prompts are built, tokens become
text. One model is one conversation's cache: one answer at a time.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from handglass.errors import InputError

from .bundle import Bundle, Manifest
from .generate import Conversation, Engine, Generation, Key, Timings, peak_mb
from .openbmb import translate
from .preprocess import Pixels, preprocess
from .prompt import Prompt, Slot, build_prompt
from .sampler import Sampler, Sampling
from .session import Session
from .stream import TextStream
from .tokenizer import Tokenizer, open_tokenizer

Messages = str | Sequence[Mapping[str, Any]]
MAX_TOKENS = 512  # of an answer, unless the caller says otherwise
_PICTURES_KEPT = 32  # encoded ones; 64 rows of 1536 floats are 0.4 MB


class VisionEngine(Engine, Protocol):
    def encode_image(self, pixels: Pixels) -> np.ndarray: ...


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: tuple[int, ...]
    finish_reason: str  # "stop" or "length"
    timings: Timings

    def __str__(self) -> str:
        return self.text


def load(path: str | os.PathLike[str], threads: int | None = None, verify: str = "all") -> Model:
    """Open a bundle folder; see Model.load."""
    return Model.load(path, threads, verify)


class Model:
    def __init__(
        self, session: VisionEngine, tokenizer: Tokenizer, manifest: Manifest, load_s: float = 0.0
    ) -> None:
        self.session = session
        self.tokenizer = tokenizer
        self.manifest = manifest
        self.load_s = load_s
        self._conversation = Conversation(session)
        self._encoded: OrderedDict[str, np.ndarray] = OrderedDict()
        self._stop = {tokenizer.token_id(token) for token in manifest.prompt.stop}

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], threads: int | None = None, verify: str = "all"
    ) -> Model:
        """Check and open a bundle. `verify="library"` skips hashing the parameter files."""
        start = time.perf_counter()
        bundle = Bundle.open(path, verify)
        manifest = bundle.manifest
        file = bundle.file(manifest.tokenizer.file)
        tokenizer = open_tokenizer(manifest.tokenizer.kind, file, manifest.prompt.markers)
        session = Session(bundle, threads)
        return cls(session, tokenizer, manifest, time.perf_counter() - start)

    def chat(
        self,
        messages: Messages | None = None,
        images: Sequence[Any] | None = None,
        *,
        stream: bool = False,
        max_tokens: int | None = None,
        temp: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        repeat_penalty: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        **openbmb: Any,
    ) -> Any:
        """An `Answer`, or with `stream=True` an `AnswerStream` of pieces of text.

        `messages` is the user's text or a list of {"role", "content"}; `images` are paths, bytes,
        PIL images or arrays. None means the default: greedy, at most MAX_TOKENS. Called OpenBMB's
        way, `chat(image=, msgs=, tokenizer=None)`, it returns the text alone, as theirs does.
        """
        options: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temp": temp,
            "top_p": top_p,
            "top_k": top_k,
            "repeat_penalty": repeat_penalty,
            "seed": seed,
        }
        given = {name: value for name, value in options.items() if value is not None}
        if openbmb:
            messages, theirs = translate(messages, images, openbmb)
            given = theirs | given
        limit = given.pop("max_tokens", MAX_TOKENS)
        answers = self.stream(messages, images, Sampling(**given), limit, stop)
        if stream:
            return answers
        answer = answers.finish()
        return answer.text if openbmb else answer

    def stream(
        self,
        messages: Messages | None,
        images: Sequence[Any] | None = None,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        max_tokens: int = MAX_TOKENS,
        stop: Sequence[str] = (),
    ) -> AnswerStream:
        """The answer as it comes; bad input is an error here, not at the first piece."""
        start = time.perf_counter()
        if isinstance(images, str | bytes | os.PathLike):
            raise InputError("images must be a list of pictures")
        prompt = build_prompt(
            messages or "", list(images or ()), self.tokenizer, self.manifest.prompt
        )
        pixels = [self._preprocess(picture) for picture in prompt.pictures]
        encoder = _Encoder(self.session, self._encoded, pixels)
        keys = _keys(prompt, pixels, self.manifest.vision.query_num)
        generation = self._conversation.answer(
            keys, encoder, Sampler(sampling), self._stop, max_tokens
        )
        return AnswerStream(self, generation, encoder, TextStream(stop), start)

    def _preprocess(self, picture: Any) -> Pixels:
        vision = self.manifest.vision
        return preprocess(
            picture,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            mean=vision.mean,
            std=vision.std,
        )


class _Encoder:
    """Digest -> features: from what was encoded before, else from the session, with the time."""

    def __init__(
        self, session: VisionEngine, encoded: OrderedDict[str, np.ndarray], pixels: list[Pixels]
    ) -> None:
        self._session = session
        self._encoded = encoded
        self._pixels = {p.digest: p for p in pixels}
        self._order = [p.digest for p in pixels]
        self._ms: dict[str, float] = {}

    def __call__(self, digest: str) -> np.ndarray:
        if digest not in self._encoded:
            start = time.perf_counter()
            self._encoded[digest] = self._session.encode_image(self._pixels[digest])
            self._ms[digest] = (time.perf_counter() - start) * 1e3
            while len(self._encoded) > _PICTURES_KEPT:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(digest)
        return self._encoded[digest]

    @property
    def encode_ms(self) -> tuple[float, ...]:
        """Of each picture of the prompt, in order; a repeated one costs nothing."""
        rest = dict(self._ms)
        return tuple(rest.pop(digest, 0.0) for digest in self._order)


def _keys(prompt: Prompt, pixels: list[Pixels], query_num: int) -> list[Key]:
    """One key per position: token ids, and `query_num` rows of each picture."""
    keys: list[Key] = []
    for segment in prompt.segments:
        if isinstance(segment, Slot):
            digest = pixels[segment.picture].digest
            keys.extend((digest, row) for row in range(query_num))
        else:
            keys.extend(segment.ids)
    return keys


class AnswerStream:
    """An iterator of text; when it has ended, `answer` holds the whole."""

    def __init__(
        self,
        model: Model,
        generation: Generation,
        encoder: _Encoder,
        text: TextStream,
        start: float,
    ) -> None:
        self._model = model
        self._generation = generation
        self._encoder = encoder
        self._text = text
        self._start = start
        self._ttft_ms = 0.0
        self._chunks = self._run()
        self.answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._chunks)

    def finish(self) -> Answer:
        """Run to the end and return the whole."""
        for _ in self._chunks:
            pass
        assert self.answer is not None
        return self.answer

    def _run(self) -> Iterator[str]:
        for token in self._generation:
            self._ttft_ms = self._ttft_ms or (time.perf_counter() - self._start) * 1e3
            if chunk := self._text.feed(self._model.tokenizer.surface(token)):
                yield chunk
            if self._text.stopped:
                break
        if chunk := self._text.finish():
            yield chunk
        self.answer = self._answer()

    def _answer(self) -> Answer:
        generation = self._generation
        reason = "stop" if self._text.stopped else generation.finish_reason
        return Answer(self._text.text, tuple(generation.tokens), reason, self._timings())

    def _timings(self) -> Timings:
        generation = self._generation
        return Timings(
            load_s=self._model.load_s,
            encode_ms=self._encoder.encode_ms,
            prefill_tokens=generation.prefill_tokens,
            reused_tokens=generation.reused_tokens,
            prefill_tok_s=_rate(generation.prefill_tokens, generation.prefill_s),
            decode_tokens=generation.decode_tokens,
            decode_tok_s=_rate(generation.decode_tokens, generation.decode_s),
            ttft_ms=self._ttft_ms,
            peak_mb=peak_mb(),
        )


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
