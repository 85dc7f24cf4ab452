"""The state of `handglass chat`: questions with their answers and pictures, and what changes it.

A question enters the history with its answer, or with the part of an answer that was interrupted.
What the history no longer repeats is not computed again either: the model reuses the longest common
beginning of two prompts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from handglass.errors import HandglassError, InputError, UsageError
from handglass.runtime.prompt.messages import MARK, SYSTEM
from handglass.runtime.system.printable import answer_text

from .answer import Interrupted, Speaker, answer_json
from .output import print_json

if TYPE_CHECKING:
    from handglass.runtime.answer.model import Answer, Model
    from handglass.runtime.prompt.preprocess import Prepared
    from handglass.runtime.prompt.video.reader import PreparedVideo

ASK, FORGET, STOP = "ask", "forget", "stop"
WHEN_FULL = (ASK, FORGET, STOP)
"""What happens when the context is full: offer to forget the oldest turn, forget it, or neither."""
HOW_TO_SHORTEN = "/reset forgets the conversation, /undo its last turn"
OFFER = "Forget the oldest question and answer, and ask again?"


@dataclass(frozen=True)
class Shown:
    """A picture or a video of a question; `original` is the picture's file, empty for a video."""

    name: str
    prepared: Prepared | PreparedVideo
    original: bytes = b""


@dataclass(frozen=True)
class Exchange:
    question: str  # with a mark for each picture
    answer: str
    shown: tuple[Shown, ...] = ()


@dataclass
class Totals:
    """Tokens since the conversation began."""

    computed: int = 0
    reused: int = 0
    answered: int = 0
    forgotten: int = 0  # questions that no longer fitted the context


class Conversation:
    """`silent` prints one JSON object per turn instead of the answer."""

    def __init__(
        self,
        model: Model,
        speaker: Speaker,
        silent: bool = False,
        confirmed: Callable[[str], bool] = lambda question: False,
        when_full: str = STOP,
    ) -> None:
        self.model = model
        self.speaker = speaker
        self.silent = silent
        self.confirmed = confirmed
        self.when_full = when_full
        self.exchanges: list[Exchange] = []
        self.waiting: list[Shown] = []  # for the next question
        self.unanswered = ""  # the last question, if it was interrupted before its answer
        self.last: Answer | None = None
        self.totals = Totals()
        self._retries = 0

    def ask(self, text: str) -> None:
        """Ask a question about the waiting pictures. If it fails, they wait for the next one."""
        self._retries, self.unanswered = 0, text
        mark = MARK + self.model.manifest.prompt.between
        question = text if MARK in text else mark * len(self.waiting) + text
        shown = tuple(self.waiting)
        try:
            answer = self._answer(question, shown)
        except Interrupted as error:
            if error.text.strip():
                self._keep(Exchange(question, error.text, shown))
                error.outcome = "; the answer so far is kept (/retry asks again, /undo drops it)"
            raise
        if self.silent:
            print_json({"prompt": text, "images": len(shown), **answer_json(answer)})
        self._keep(Exchange(question, answer.text, shown))

    def _keep(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self.waiting, self.unanswered = [], ""

    def retry(self) -> None:
        """Ask the last question again. Its first answer is kept if that fails."""
        if self.unanswered:
            return self.ask(self.unanswered)
        if not self.exchanges:
            raise UsageError("/retry: nothing has been asked yet")
        if self._is_greedy:
            self.say("the likeliest answer is the same again; --temp T varies it")
        last = self.exchanges.pop()
        self._retries += 1
        try:
            answer = self._answer(last.question, last.shown)
        except BaseException as error:
            self.exchanges.append(last)
            if isinstance(error, Interrupted):
                error.outcome = "; the earlier answer is kept"
            raise
        self.exchanges.append(replace(last, answer=answer.text))
        if self.silent:
            question = last.question.replace(MARK, "")
            print_json({"prompt": question, "images": len(last.shown), **answer_json(answer)})
        return None

    @property
    def _is_greedy(self) -> bool:
        options = {**self.model.manifest.prompt.sampling, **self.speaker.given}
        return not options.get("temp", 0)

    @property
    def varied(self) -> Speaker:
        """The speaker of this attempt: a repeated question takes the next seed."""
        seed = self.speaker.seed
        return self.speaker if seed is None else replace(self.speaker, seed=seed + self._retries)

    def _answer(self, question: str, shown: tuple[Shown, ...]) -> Answer:
        """Ask with the history. Where the context is full, its oldest turns may be forgotten; they
        come back if the question does not even fit alone."""
        before, forgotten = self.exchanges[:], self.totals.forgotten
        try:
            return self._fitting_answer(question, shown)
        except HandglassError as error:
            if self.exchanges == before:
                raise
            self.exchanges, self.totals.forgotten = before, forgotten
            raise InputError(f"{error}; what was forgotten is back") from error

    def _fitting_answer(self, question: str, shown: tuple[Shown, ...]) -> Answer:
        from handglass.runtime.answer.generate import ContextFullError

        while True:
            turns, pictures = self._prompt(question, shown)
            try:
                answer = self.varied.ask(self.model, turns, pictures, self.silent)
            except ContextFullError as error:
                if not self._makes_room(error.counts):
                    if not self.exchanges:
                        raise
                    raise InputError(f"{error.counts}; {HOW_TO_SHORTEN}") from error
            else:
                self._count(answer)
                is_cut = answer.finish_reason == "length" and answer.cut_by == "context"
                if not is_cut or not self._makes_room("the context is full"):
                    return answer

    def _prompt(
        self, question: str, shown: tuple[Shown, ...]
    ) -> tuple[list[dict[str, str]], list[Any]]:
        turns = []
        for exchange in self.exchanges:
            turns.append({"role": "user", "content": exchange.question})
            turns.append({"role": "assistant", "content": exchange.answer})
        all_shown = [*(s for exchange in self.exchanges for s in exchange.shown), *shown]
        return [*turns, {"role": "user", "content": question}], [s.prepared for s in all_shown]

    def _makes_room(self, why: str) -> bool:
        """Forget the oldest turn, if there is one and the policy allows it."""
        if not self.exchanges or self.when_full == STOP:
            return False
        if self.when_full == ASK and not self.confirmed(f"{why}. {OFFER}"):
            return False
        del self.exchanges[0]
        self.totals.forgotten += 1
        if self.when_full == FORGET:
            self.say(f"{why}: the oldest question and its answer were forgotten")
        return True

    def _count(self, answer: Answer) -> None:
        self.last = answer
        self.totals.computed += answer.timings.prefill_tokens
        self.totals.reused += answer.timings.reused_tokens
        self.totals.answered += len(answer.tokens)

    def undo(self) -> None:
        """Take back the picture that waits, or else the last turn, whose pictures wait again."""
        self.unanswered = ""
        if self.waiting:
            self.say(f"{self.waiting.pop().name}: not shown")
        elif self.exchanges:
            last = self.exchanges.pop()
            self.waiting = list(last.shown)
            text = last.question.replace(MARK, "").strip()
            pictures = "; its pictures wait for the next question" if last.shown else ""
            self.say(f"taken back: {text!r}{pictures}")
        else:
            raise UsageError("/undo: nothing has been asked yet")

    def show(self, shown: Shown) -> None:
        self.waiting.append(shown)

    def reset(self) -> None:
        self.exchanges, self.waiting, self.unanswered = [], [], ""
        self.last, self.totals = None, Totals()

    def instruct(self, text: str | None) -> None:
        """Set the system prompt, from the first turn on; None: none."""
        if text is not None and SYSTEM not in self.model.manifest.prompt.roles:
            raise UsageError(
                "/system: this model has no system role; put the instructions into the question"
            )
        self.speaker = replace(self.speaker, system=text)

    def say(self, text: str) -> None:
        """Tell the person who chats, on standard error; nothing with --json."""
        if not self.silent:
            print(answer_text(text), file=sys.stderr)
