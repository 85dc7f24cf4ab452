"""The answers of /v1/chat/completions: one object, or chunks of a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

from ..answer.answer import Answer
from ..answer.logprobs import TokenLogProb
from ..answer.thoughts import Thought
from .served import Ready
from .usage import chat_usage, logprob_entry, timings_of


class ChatCompletion:
    """The objects that tell one answer."""

    def __init__(self, ready: Ready) -> None:
        self._asked = ready.asked
        self._tokenizer = ready.served.model.tokenizer
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._logprobs: list[dict[str, Any]] = []  # of tokens whose text is still to come

    def whole(self, answer: Answer, waited_s: float) -> dict[str, Any]:
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.thinking:
            message["reasoning_content"] = answer.thinking
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": answer.finish_reason,
            "logprobs": self._logprobs_of(answer),
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": chat_usage(answer),
            "timings": timings_of(answer, waited_s),
        }

    def begin(self) -> dict[str, Any]:
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, item: str | TokenLogProb) -> Iterator[dict[str, Any]]:
        """The chunks for an item of the answer's stream."""
        if isinstance(item, TokenLogProb):
            self._logprobs.append(logprob_entry(item, self._tokenizer))
            return
        name = "reasoning_content" if isinstance(item, Thought) else "content"
        yield self._chunk({name: str(item)}, logprobs=name == "content")

    def end(self, answer: Answer, waited_s: float) -> Iterator[dict[str, Any]]:
        last = self._chunk({}, answer.finish_reason, logprobs=True)
        timings = timings_of(answer, waited_s)
        if not self._asked.include_usage:
            yield {**last, "timings": timings}
            return
        yield last
        usage = {"choices": [], "usage": chat_usage(answer), "timings": timings}
        yield {**self._head("chat.completion.chunk"), **usage}

    def _chunk(
        self, delta: dict[str, Any], reason: str | None = None, logprobs: bool = False
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": reason}
        choice["logprobs"] = self._fetched() if logprobs else None
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self._asked.include_usage else chunk

    def _fetched(self) -> dict[str, Any] | None:
        """The log probabilities since the last call."""
        found, self._logprobs = self._logprobs, []
        return {"content": found, "refusal": None} if found else None

    def _logprobs_of(self, answer: Answer) -> dict[str, Any] | None:
        if self._asked.top_logprobs is None:
            return None
        entries = [logprob_entry(entry, self._tokenizer) for entry in answer.logprobs]
        return {"content": entries, "refusal": None}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._asked.model,
            "system_fingerprint": None,
            "service_tier": "default",
        }
