"""Connections on which nothing goes on are closed, so that they take nobody's place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from ..limits import STALL_S

HEAD_S = 20.0
"""Seconds in which the head of a request must arrive."""
LEAST_READ = 4096
"""Bytes of an answer that a client must take while it is waited for."""


class Connection(H11Protocol):
    """uvicorn itself only ends a connection that is idle after an answer.

    `stall_s`: seconds in which a client must take something of what waits for it; `stalled` is
    called when it has not, and its answer ends as if it had left.
    """

    _late: asyncio.TimerHandle | None = None
    _stalling: asyncio.TimerHandle | None = None
    _unread = 0  # bytes that waited for the client when it was last looked at

    def __init__(
        self,
        *arguments: Any,
        stall_s: float = STALL_S,
        stalled: Callable[[], None] = lambda: None,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self._stall_s = stall_s
        self._stalled = stalled

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # writing pauses as soon as the socket takes no more
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._unwatch_reader()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        self._unwatch_reader()
        super().resume_writing()

    def _watch(self) -> None:
        """Begin to wait for the head of a request, or end it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_S, self.transport.close)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _watch_reader(self) -> None:
        self._unread = self._waiting()
        self._stalling = self.loop.call_later(self._stall_s, self._look)

    def _unwatch_reader(self) -> None:
        if self._stalling is not None:
            self._stalling.cancel()
            self._stalling = None

    def _look(self) -> None:
        """Nothing is added while writing is paused: what waits only becomes less."""
        if self._unread - self._waiting() >= LEAST_READ:
            self._watch_reader()
        else:
            self._stalled()
            self.transport.abort()  # closing would wait until all is read

    def _waiting(self) -> int:
        return self.transport.get_write_buffer_size()
