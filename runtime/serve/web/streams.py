"""The events of the two interfaces, from the items of an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from ...answer.answer import Answer
from ..chat_objects import ChatCompletion
from ..embedder import ReadyRows, Rows
from ..embeddings_body import embeddings
from ..refusal import Refusal
from ..response_objects import Response
from ..served import Ready
from .events import DONE, comment, event
from .reply import Encoded, Quiet


class Told(Protocol):
    """Tells one answer, whole or as a stream of events."""

    def whole(self, answer: Any, waited_s: float) -> dict[str, Any]: ...
    def begin(self) -> Iterator[bytes]: ...
    def item(self, item: Any) -> Iterator[bytes]: ...
    def end(self, answer: Any, waited_s: float) -> Iterator[bytes]: ...
    def failed(self, refusal: Refusal) -> Iterator[bytes]: ...


def progress(item: Any) -> bytes | None:
    """A comment that keeps the connection alive, for an item that is no part of the answer."""
    if isinstance(item, Encoded):
        return comment(f"encoded {item.done}/{item.total}")
    return comment("waiting") if isinstance(item, Quiet) else None


class ChatStream:
    def __init__(self, ready: Ready) -> None:
        self._objects = ChatCompletion(ready)

    def whole(self, answer: Answer, waited_s: float) -> dict[str, Any]:
        return self._objects.whole(answer, waited_s)

    def begin(self) -> Iterator[bytes]:
        yield event(self._objects.begin())

    def item(self, item: Any) -> Iterator[bytes]:
        if (told := progress(item)) is not None:
            yield told
        else:
            yield from map(event, self._objects.piece(item))

    def end(self, answer: Answer, waited_s: float) -> Iterator[bytes]:
        yield from map(event, self._objects.end(answer, waited_s))
        yield DONE

    def failed(self, refusal: Refusal) -> Iterator[bytes]:
        yield event(refusal.body)


class ResponseStream:
    def __init__(self, ready: Ready) -> None:
        self._objects = Response(ready)

    def whole(self, answer: Answer, waited_s: float) -> dict[str, Any]:
        return self._objects.whole(answer, waited_s)

    def begin(self) -> Iterator[bytes]:
        yield from _named(self._objects.begin())

    def item(self, item: Any) -> Iterator[bytes]:
        if (told := progress(item)) is not None:
            yield told
        else:
            yield from _named(self._objects.piece(item))

    def end(self, answer: Answer, waited_s: float) -> Iterator[bytes]:
        yield from _named(self._objects.end(answer, waited_s))

    def failed(self, refusal: Refusal) -> Iterator[bytes]:
        yield from _named(self._objects.failed(refusal))


class ToldRows:
    """Rows, which are told whole and never as a stream."""

    def __init__(self, ready: ReadyRows) -> None:
        self._asked = ready.asked

    def whole(self, answer: Rows, waited_s: float) -> dict[str, Any]:
        return embeddings(self._asked, answer)


def _named(values: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    return (event(value, value["type"]) for value in values)
