"""The answers of /v1/responses: one object, or the events of a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

from ..answer.answer import Answer
from ..answer.logprobs import TokenLogProb
from ..answer.thoughts import Thought
from .refusal import Refusal
from .served import Ready
from .usage import logprob_entry, response_usage, timings_of

REASONING, MESSAGE = "reasoning", "message"
PARTS = {REASONING: "reasoning_text", MESSAGE: "output_text"}
"""The part of each kind of item, which also names the events of its text."""
Event = dict[str, Any]


class Response:
    """The objects that tell one answer: an item with the thoughts, if any, and one of the text."""

    def __init__(self, ready: Ready) -> None:
        self._asked = ready.asked
        self._tokenizer = ready.served.model.tokenizer
        self._id = f"resp_{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._number = 0  # of the next event
        self._output: list[dict[str, Any]] = []  # finished items
        self._open = ""  # the kind of the item that is being told
        self._item_id = ""
        self._text = ""  # of this item
        self._logprobs: list[dict[str, Any]] = []  # of this item
        self._fresh: list[dict[str, Any]] = []  # since the last piece

    def whole(self, answer: Answer, waited_s: float) -> dict[str, Any]:
        output = []
        if answer.thinking:
            output.append(self._item(REASONING, f"rs_{self._id}", answer.thinking))
        self._logprobs = [logprob_entry(entry, self._tokenizer) for entry in answer.logprobs]
        output.append(self._item(MESSAGE, f"msg_{self._id}", answer.text))
        return self._object(_status(answer), output, answer, waited_s)

    def begin(self) -> Iterator[Event]:
        for name in ("created", "in_progress"):
            yield self._event(f"response.{name}", response=self._object("in_progress", []))

    def piece(self, item: str | TokenLogProb) -> Iterator[Event]:
        if isinstance(item, TokenLogProb):
            self._fresh.append(logprob_entry(item, self._tokenizer))
            return
        kind = REASONING if isinstance(item, Thought) else MESSAGE
        yield from self._opened(kind)
        self._text += item
        delta = {"delta": str(item)}
        if kind == MESSAGE:
            delta["logprobs"] = self._fetched()  # type: ignore[assignment]
        yield self._of_part(f"response.{PARTS[kind]}.delta", **delta)

    def end(self, answer: Answer, waited_s: float) -> Iterator[Event]:
        yield from self._opened(MESSAGE)  # an answer may be empty
        self._fetched()
        yield from self._closed()
        status = _status(answer)
        response = self._object(status, self._output, answer, waited_s)
        yield self._event(f"response.{status}", response=response)

    def failed(self, refusal: Refusal) -> Iterator[Event]:
        response = self._object("failed", self._output)
        error = {"code": refusal.code or refusal.kind, "message": refusal.message}
        yield self._event("response.failed", response={**response, "error": error})

    def _opened(self, kind: str) -> Iterator[Event]:
        """Begin an item of this kind, unless it is the current one."""
        if self._open == kind:
            return
        yield from self._closed()
        self._open, self._text, self._logprobs = kind, "", []
        self._item_id = f"{'rs' if kind == REASONING else 'msg'}_{self._id}"
        item = {**self._item(kind, self._item_id, ""), "status": "in_progress", "content": []}
        yield self._event("response.output_item.added", **self._place, item=item)
        yield self._of_part("response.content_part.added", part=self._part())

    def _closed(self) -> Iterator[Event]:
        """End the current item."""
        if not self._open:
            return
        done = {"text": self._text}
        if self._open == MESSAGE:
            done["logprobs"] = self._logprobs  # type: ignore[assignment]
        yield self._of_part(f"response.{PARTS[self._open]}.done", **done)
        yield self._of_part("response.content_part.done", part=self._part())
        item = self._item(self._open, self._item_id, self._text)
        yield self._event("response.output_item.done", **self._place, item=item)
        self._output.append(item)
        self._open = ""

    def _fetched(self) -> list[dict[str, Any]]:
        fresh, self._fresh = self._fresh, []
        self._logprobs += fresh
        return fresh

    @property
    def _place(self) -> dict[str, Any]:
        return {"output_index": len(self._output)}

    def _of_part(self, name: str, **values: Any) -> Event:
        place = {"item_id": self._item_id, **self._place, "content_index": 0}
        return self._event(name, **place, **values)

    def _event(self, name: str, **values: Any) -> Event:
        self._number += 1
        return {"type": name, "sequence_number": self._number - 1, **values}

    def _part(self) -> dict[str, Any]:
        return _part_of(self._open, self._text, self._logprobs)

    def _item(self, kind: str, id_: str, text: str) -> dict[str, Any]:
        item = {"id": id_, "type": kind, "status": "completed"}
        content = [_part_of(kind, text, self._logprobs)]
        if kind == REASONING:
            return {**item, "summary": [], "content": content}
        return {**item, "role": "assistant", "content": content}

    def _object(
        self,
        status: str,
        output: list[dict[str, Any]],
        answer: Answer | None = None,
        waited_s: float = 0.0,
    ) -> dict[str, Any]:
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        asked = self._asked.options
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "model": self._asked.model,
            "output": list(output),
            "error": None,
            "incomplete_details": cut,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": False,
            "tool_choice": "none",
            "tools": [],
            "temperature": asked.get("temp"),
            "top_p": asked.get("top_p"),
            "max_output_tokens": asked.get("max_tokens"),
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            "usage": None if answer is None else response_usage(answer),
            "timings": None if answer is None else timings_of(answer, waited_s),
        }


def _part_of(kind: str, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    part: dict[str, Any] = {"type": PARTS[kind], "text": text}
    return part if kind == REASONING else {**part, "annotations": [], "logprobs": list(logprobs)}


def _status(answer: Answer) -> str:
    return "completed" if answer.finish_reason == "stop" else "incomplete"
