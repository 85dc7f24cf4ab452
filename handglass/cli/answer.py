"""Asks a loaded model: streams the answer to standard output, prints a footer to standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import handglass
from handglass.runtime.answer.model import Answer, AnswerStream, Model
from handglass.runtime.answer.sampler import Sampling
from handglass.runtime.system.streams import print_answer

from .footer import footer


@dataclass(frozen=True)
class Speaker:
    """The sampling options of the command line; None leaves the choice to the bundle.

    Raises UsageError for a value out of range, before anything is loaded.
    """

    max_tokens: int | None = None
    temp: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repeat_penalty: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        Sampling(**{name: value for name, value in self.given.items() if name != "max_tokens"})

    @property
    def given(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def load(self, bundle: Path, threads: int | None, device: str | None) -> Model:
        model: Model = handglass.load(bundle, threads=threads, device=device)
        return model

    def ask(
        self,
        model: Model,
        messages: str | Sequence[Mapping[str, Any]],
        images: Sequence[Any],
        silent: bool = False,
        stream: bool = True,
    ) -> Answer:
        pieces: AnswerStream = model.chat(messages, images, stream=True, **self.given)
        for piece in pieces:
            if stream and not silent:
                print_answer(piece, end="")
        answer = pieces.finish()
        if not silent:
            print_answer("" if stream else answer.text)
            print(footer(asdict(answer.timings)), file=sys.stderr)
            if answer.finish_reason == "length":
                print(cut_text(answer), file=sys.stderr)
        return answer


def cut_text(answer: Answer) -> str:
    """Why an answer ends before the model ended it."""
    if answer.cut_by == "context":
        return "the answer is cut: the context of this bundle is full"
    count = len(answer.tokens)
    return f"the answer is cut after {count} token{'' if count == 1 else 's'}; -n sets the limit"


def answer_json(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "tokens": list(answer.tokens),
        "finish_reason": answer.finish_reason,
        "timings": asdict(answer.timings),
    }
