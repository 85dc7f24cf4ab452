"""Asks a loaded model: streams the answer to standard output, prints a footer to standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import handglass
from handglass.runtime.answer.model import MAX_TOKENS, Answer, Model
from handglass.runtime.answer.sampler import Sampling

from .footer import footer


class Speaker:
    """Sampling parameters and token limit, validated before anything is loaded."""

    def __init__(
        self,
        temp: float,
        top_p: float,
        top_k: int,
        repeat_penalty: float,
        seed: int | None,
        max_tokens: int | None,
    ) -> None:
        self.sampling = Sampling(temp, top_k, top_p, repeat_penalty, seed)
        self.max_tokens = max_tokens or MAX_TOKENS

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
        pieces = model.stream(messages, images, self.sampling, self.max_tokens)
        for piece in pieces:
            if stream and not silent:
                print(piece, end="", flush=True)
        answer = pieces.finish()
        if not silent:
            print("" if stream else answer.text, flush=True)
            line = footer(asdict(answer.timings))
            print(line, file=sys.stderr)
        return answer


def answer_json(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "tokens": list(answer.tokens),
        "finish_reason": answer.finish_reason,
        "timings": asdict(answer.timings),
    }
