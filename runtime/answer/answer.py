"""An answer, complete or streamed: converts generated tokens to text and collects the timings."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from handglass.errors import UsageError

from ..engine.worker import Job, Worker
from ..system.memory import peak_bytes
from .generate import Generation
from .logprobs import LogProbs, TokenLogProb
from .pictures import PictureEncoder
from .stream import TextStream
from .thoughts import Thought
from .timings import Timings

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: tuple[int, ...]
    finish_reason: str  # "stop" or "length"
    timings: Timings
    cut_by: str = ""  # "max_tokens" or "context" if the finish_reason is "length"
    thinking: str = ""  # what the model thought before the text
    thinking_tokens: int = 0  # of the tokens, those of the thoughts and their markers
    logprobs: tuple[TokenLogProb, ...] = ()  # of the tokens of the text, if they were asked for

    def __str__(self) -> str:
        return self.text


class AnswerStream:
    """An iterator over pieces of text; after the last one, `answer` holds the complete answer.

    `with_thoughts` iterates over the thoughts as well, which are then instances of `Thought`.

    The first step queues the answer in the model's thread, which generates all of it, however fast
    the pieces are read. `close`, or dropping the stream, ends it early.
    """

    def __init__(self, worker: Worker, production: Production) -> None:
        self._worker = worker
        self._production = production
        self._job: Job[None] | None = None

    @property
    def answer(self) -> Answer | None:
        return self._production.answer

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            piece = self._next()
            if isinstance(piece, str) and not isinstance(piece, Thought):
                return piece

    def watch(self, report: Callable[[int, int], None]) -> None:
        """Call `report(done, total)` for the tiles that this answer encodes, in the model's thread.

        To be called before the first step.
        """
        self._production.watch(report)

    def with_thoughts(self) -> Iterator[str]:
        """The pieces of the thoughts, then those of the text, in the order of their generation."""
        return (item for item in self.items() if isinstance(item, str))

    def items(self) -> Iterator[str | TokenLogProb]:
        """Also the log probabilities of the text, each before the piece that its token ends."""
        with contextlib.suppress(StopIteration):
            while True:
                yield self._next()

    def _next(self) -> str | TokenLogProb:
        job = self._start()
        piece = self._wait(self._production.pieces.get)
        if piece is None:
            self._production.pieces.put(None)  # for another call
            job.result()  # raises the error that ended it
            raise StopIteration
        return piece

    def finish(self) -> Answer:
        """Generate the rest and return the complete answer. Raises UsageError after an error."""
        self._wait(self._start().result)
        if self.answer is None:
            raise UsageError("this answer was closed before its end; ask again")
        return self.answer

    def close(self) -> None:
        """End the answer after its current step. The pieces so far can still be read."""
        self._production.closed = True

    def __del__(self) -> None:
        self.close()

    def _wait(self, call: Callable[[], T]) -> T:
        """Wait for the model's thread; an interrupt, such as Ctrl-C, ends the answer."""
        try:
            return call()
        except BaseException:
            self.close()
            raise

    def _start(self) -> Job[None]:
        if self._job is None:
            self._job = self._worker.submit(self._production.run)
        return self._job


class ClosedError(Exception):
    """The answer was closed before its first token."""


class Production:
    """Generates an answer in the model's thread. Pieces of text go to a queue, None at the end."""

    def __init__(
        self,
        generation: Generation,
        encoder: PictureEncoder,
        text: TextStream,
        surface: Callable[[int], bytes],
        start: float,
        load_s: float,
        device_peak: Callable[[], int | None],
        recorded: LogProbs | None = None,
    ) -> None:
        self._generation = generation
        self._encoder = encoder
        self._text = text
        self._surface = surface
        self._start = start
        self._load_s = load_s
        self._device_peak = device_peak
        self._recorded = recorded
        self._logprobs: list[TokenLogProb] = []
        self._thinking_tokens = 0
        self._ttft_ms = 0.0
        self.pieces: SimpleQueue[str | TokenLogProb | None] = SimpleQueue()
        self.answer: Answer | None = None
        self.closed = False
        encoder.check = generation.check = self._check

    def watch(self, report: Callable[[int, int], None]) -> None:
        self._encoder.report = report

    def run(self) -> None:
        try:
            for piece in self._generate():
                self.pieces.put(piece)
        except ClosedError:
            pass
        finally:
            self.pieces.put(None)

    def _check(self) -> None:
        if self.closed:
            raise ClosedError

    def _generate(self) -> Iterator[str | TokenLogProb]:
        tokens = iter(self._generation)
        while not self.closed and (token := next(tokens, None)) is not None:
            self._ttft_ms = self._ttft_ms or (time.perf_counter() - self._start) * 1e3
            yield from self._taken(token)
            if self._text.stopped:
                break
        if self.closed:
            return
        yield from self._pieces(self._text.finish())
        self.answer = self._answer()

    def _taken(self, token: int) -> Iterator[str | TokenLogProb]:
        thoughts = self._text.thoughts
        was_thinking = thoughts.is_thinking
        text = self._text.feed(self._surface(token))
        if was_thinking or thoughts.is_thinking:
            self._thinking_tokens += 1
        elif self._recorded is not None:
            self._logprobs.append(self._recorded.entries[len(self._generation.tokens) - 1])
            yield self._logprobs[-1]
        yield from self._pieces(text)

    def _pieces(self, text: str) -> Iterator[str]:
        if thought := self._text.thoughts.fetch():
            yield Thought(thought)
        if text:
            yield text

    def _answer(self) -> Answer:
        generation = self._generation
        reason = "stop" if self._text.stopped else generation.finish_reason
        cut_by = "" if reason == "stop" else generation.cut_by
        tokens = tuple(generation.tokens)
        thinking = self._text.thoughts.text.strip()
        counted = (thinking, self._thinking_tokens, tuple(self._logprobs))
        return Answer(self._text.text, tokens, reason, self._timings(), cut_by, *counted)

    def _timings(self) -> Timings:
        generation, device_peak = self._generation, self._device_peak()
        return Timings(
            load_s=self._load_s,
            encode_ms=self._encoder.encode_ms,
            image_tokens=self._encoder.image_tokens,
            video_frames=self._encoder.video_frames,
            prefill_tokens=generation.prefill_tokens,
            reused_tokens=generation.reused_tokens,
            prefill_tok_s=_rate(generation.prefill_tokens, generation.prefill_s),
            decode_tokens=generation.decode_tokens,
            decode_tok_s=_rate(generation.decode_tokens, generation.decode_s),
            ttft_ms=self._ttft_ms,
            peak_mb=peak_bytes() / 1e6,
            device_mb=None if device_peak is None else device_peak / 1e6,
        )


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
