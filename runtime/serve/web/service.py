"""Answers requests: reads a question, lets it wait for its turn, and tells its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from handglass.errors import HandglassError

from ..asked import Asked
from ..desk import Desk, Ended, Ticket
from ..embedder import AskedRows, ReadyRows
from ..limits import UPLOADS, UPLOADS_SHARE, Limits
from ..refusal import SERVER, Refusal, refusal_of
from ..served import Models, Ready
from .body import parsed, read_body
from .events import EventStream, left
from .log import Log
from .metrics import Metrics
from .reply import CancelledError, Reply
from .streams import Told
from .uploads import Uploads

Read = Callable[[Any], Ready | ReadyRows]
"""From the value of a body; raises Refusal."""


class Service:
    """The state behind the paths."""

    def __init__(self, models: Models, limits: Limits, log: Log) -> None:
        self.models = models
        self.limits = limits
        self.log = log
        self.metrics = Metrics()
        self.desk = Desk(limits, self._ended)
        self._uploads = Uploads(UPLOADS, UPLOADS_SHARE, limits.body_s)
        # One thread: a decoded picture may take 300 MB, and tokenizers are not shared.
        self._preparing = ThreadPoolExecutor(1, "handglass requests")

    async def answer(self, request: Request, read: Read, told: Callable[[Any], Any]) -> Any:
        """The response to a question, whose answer `told` makes of what `read` has read: Told."""
        deadline = time.monotonic() + self.limits.timeout_s
        self.desk.check()  # before the body is read
        async with self.body(request) as body:
            ready = await self._in_thread(self._ready, body, read)
            del body  # it is large, and an answer may take long
        reply = Reply(self.desk, ready, client_of(request, ready.asked), deadline)
        if ready.asked.stream:
            return EventStream(self._streamed(reply, told(ready)), reply.close)
        return await self._whole(request, reply, told(ready))

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request; a large one holds its place until it has been made use of."""
        async with AsyncExitStack() as held:
            place = self._uploads.place(address_of(request))
            yield await read_body(request, self.limits, partial(held.enter_async_context, place))

    def _ready(self, body: bytes, read: Read) -> Ready | ReadyRows:
        return read(parsed(body))

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._preparing, call, *arguments)

    async def _whole(self, request: Request, reply: Reply, told: Told) -> Response:
        answering = asyncio.ensure_future(reply.finished())
        leaving = asyncio.ensure_future(left(request.receive))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise CancelledError
            return JSONResponse(told.whole(answering.result(), reply.waited_s))
        finally:
            reply.close()
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _streamed(self, reply: Reply, told: Told) -> AsyncGenerator[bytes, None]:
        try:
            for data in told.begin():
                yield data
            async for item in reply.items():
                for data in told.item(item):
                    yield data
            assert reply.answer is not None
            for data in told.end(reply.answer, reply.waited_s):
                yield data
        except Exception as error:  # noqa: BLE001  the status is already sent
            for data in told.failed(self.refusal(error)):
                yield data

    def refusal(self, error: Exception) -> Refusal:
        """How an error is told to the client. One that is a bug goes to the log."""
        if isinstance(error, Refusal):
            return error
        if isinstance(error, HandglassError):
            return refusal_of(error)
        if isinstance(error, CancelledError):
            return Refusal(499, "the answer was cancelled", code="cancelled", kind=SERVER)
        self.log.bug(error)
        return Refusal(500, "a bug in handglass; see the log of the server", kind=SERVER)

    def stalled(self) -> None:
        """A client has stopped reading, and was hung up on."""
        self.metrics.stalled.inc()
        self.log.note("a client stopped reading its answer: its connection was closed")

    def _ended(self, ticket: Ticket, ended: Ended, seconds: float) -> None:
        self.metrics.ended(ticket, ended)
        self.log.answer(ticket, ended, seconds)


def client_of(request: Request, asked: Asked | AskedRows) -> str:
    """Whose line a question joins: the address, and the user if the client names one."""
    return f"{address_of(request)} {asked.user}".strip()


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""
