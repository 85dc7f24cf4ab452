"""A stream of events ends with its client, even if a cancellation gets lost."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="answers over HTTP: handglass[serve]")

from handglass.runtime.serve.web.events import EventStream, comment, event


class Answer:
    """Events until it is closed; cancelling it has no effect, as wait_for of Python 3.11 can do."""

    def __init__(self, error: Exception | None = None) -> None:
        self.closed, self.told, self.error = False, 0, error

    async def events(self) -> AsyncGenerator[bytes, None]:
        while not self.closed:
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                continue
            self.told += 1
            if self.error is not None:
                raise self.error
            yield event({"n": self.told})

    def close(self) -> None:
        self.closed = True


def run(answer: Answer, leaves_s: float) -> list[Any]:
    """What is sent to a client that leaves after some seconds."""
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(leaves_s)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def serve() -> None:
        stream: Any = EventStream(answer.events(), answer.close)
        task = asyncio.ensure_future(stream({"type": "http"}, receive, send))
        done, _ = await asyncio.wait({task}, timeout=10)
        answer.close()
        await task
        assert done, "it went on without its client"

    asyncio.run(serve())
    return sent


def test_a_client_that_leaves_ends_the_stream() -> None:
    answer = Answer()
    sent = run(answer, 0.1)
    assert answer.closed and 0 < answer.told < 1000
    assert sent[0]["type"] == "http.response.start"


def test_one_that_leaves_before_the_first_event_does_too() -> None:
    answer = Answer()
    run(answer, 0.0)
    assert answer.closed and answer.told <= 1


def test_an_error_is_raised() -> None:
    with pytest.raises(ValueError, match="broken"):
        run(Answer(ValueError("broken")), 5.0)


def test_the_bytes_of_events() -> None:
    assert event({"a": "\u00e9\n"}, "x") == 'event: x\ndata: {"a":"\u00e9\\n"}\n\n'.encode()
    assert comment("still here") == b": still here\n\n"
