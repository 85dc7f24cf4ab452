"""One answer on its way from the model's thread to its client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ...answer.answer import Answer
from ..desk import Desk, Ended, Ticket
from ..embedder import ReadyRows, Rows
from ..refusal import SERVER, Refusal
from ..served import Ready

QUIET_S = 10.0
"""After so many seconds without an item, a stream says that it is alive."""


@dataclass(frozen=True)
class Encoded:
    """Tiles of pictures that are encoded, of all that must be."""

    done: int
    total: int


class Quiet:
    """Nothing has happened for a while."""


class CancelledError(Exception):
    """The answer was ended from outside; there is nobody to tell."""


class Reply:
    """Enters the line at once; raises Refusal if it is full. `close` ends the answer."""

    def __init__(self, desk: Desk, ready: Ready | ReadyRows, client: str, deadline: float) -> None:
        self._desk = desk
        self._deadline = deadline  # of time.monotonic
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        ready.stream.watch(lambda done, total: self._put(Encoded(done, total)))
        self.ready = ready
        self.ticket: Ticket = desk.enter(ready, client, self._put)
        self.answer: Answer | Rows | None = None

    @property
    def waited_s(self) -> float:
        return self.ticket.waited_s or 0.0

    async def items(self) -> AsyncIterator[Any]:
        """Pieces, log probabilities, Encoded and Quiet; afterwards there is an `answer`.

        Raises the error of the runtime, or Refusal when the time is over.
        """
        while True:
            item = await self._next()
            if isinstance(item, Ended):
                self.answer = _answer_of(item)
                return
            yield item

    async def finished(self) -> Answer | Rows:
        async for _ in self.items():
            pass
        assert self.answer is not None
        return self.answer

    def close(self) -> None:
        if self.answer is None:
            self._desk.leave(self.ticket)

    def _put(self, item: Any) -> None:
        """From the model's thread."""
        self._loop.call_soon_threadsafe(self._items.put_nowait, item)

    async def _next(self) -> Any:
        left = self._deadline - time.monotonic()
        try:
            return await asyncio.wait_for(self._items.get(), max(0.0, min(left, QUIET_S)))
        except asyncio.TimeoutError:
            if left > QUIET_S:
                return Quiet()
            self.close()
            raise Refusal(
                504, "the time for this answer is over", code="timeout", kind=SERVER
            ) from None


def _answer_of(ended: Ended) -> Answer | Rows:
    if ended.error is not None:
        raise ended.error
    if ended.answer is None:
        raise CancelledError
    return ended.answer
