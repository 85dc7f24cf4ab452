"""Where answers wait for their turn: one is generated at a time, and clients take turns.

Each client has a line of its own, first come first served, and the lines are served in rotation:
whoever asks for much waits behind himself. The length of all lines together is limited, and the
share of one client in them.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..answer.answer import Answer
from .embedder import ReadyRows, Rows
from .limits import Limits
from .refusal import SERVER, Refusal
from .served import Ready

RETRY_S = 60
"""Longest time that a client is told to wait."""
FIRST_GUESS_S = 2.0
"""Seconds of an answer, as long as none is finished."""


@dataclass(frozen=True)
class Ended:
    """The last item of a ticket: `answer`, or else `error`; neither if it was cancelled."""

    answer: Answer | Rows | None = None
    error: BaseException | None = None


class Ticket:
    """A place in the line. `put` receives the items of the answer, then `Ended`, in our thread."""

    def __init__(self, ready: Ready | ReadyRows, client: str, put: Callable[[Any], None]) -> None:
        self.ready = ready
        self.client = client
        self.put = put
        self.entered = time.monotonic()
        self.waited_s: float | None = None  # until its turn came
        self.is_cancelled = False

    def cancel(self) -> None:
        """End the answer after its current step, or before its first."""
        self.is_cancelled = True
        self.ready.stream.close()


class Desk:
    """`ended` is called with each ticket, its last item and its seconds: in our thread, or in that
    of `leave` for one that was still waiting."""

    def __init__(
        self, limits: Limits, ended: Callable[[Ticket, Ended, float], None] = lambda *_: None
    ) -> None:
        self._limits = limits
        self._ended = ended
        self._lines: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._changed = threading.Condition()
        self._running: Ticket | None = None
        self._is_draining = False
        self._seconds = FIRST_GUESS_S  # of an answer, on average
        self._thread = threading.Thread(target=self._work, name="handglass answers", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        with self._changed:
            return self._count()

    @property
    def is_busy(self) -> bool:
        with self._changed:
            return self._running is not None or self._count() > 0

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    def check(self) -> None:
        """Raise Refusal if nobody can enter now."""
        with self._changed:
            self._check_open()

    def enter(self, ready: Ready | ReadyRows, client: str, put: Callable[[Any], None]) -> Ticket:
        """Take a place in the client's line. Raises Refusal if there is none."""
        ticket = Ticket(ready, client, put)
        with self._changed:
            self._check_open()
            line = self._lines.get(client, ())
            if len(line) >= self._limits.per_client:
                raise self._full(f"{len(line)} requests of this client are waiting")
            self._lines.setdefault(client, deque()).append(ticket)
            self._changed.notify()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Cancel it, and give its place in the line to others."""
        ticket.cancel()
        with self._changed:
            line = self._lines.get(ticket.client, ())
            was_waiting = ticket in line
            if was_waiting:
                self._lines[ticket.client].remove(ticket)
                self._drop_empty(ticket.client)
        if was_waiting:
            ticket.waited_s = time.monotonic() - ticket.entered
            self._ended(ticket, Ended(), 0.0)

    def drain(self) -> None:
        """Accept nobody any more; those in the lines are answered."""
        with self._changed:
            self._is_draining = True

    def _check_open(self) -> None:
        if self._is_draining:
            raise Refusal(503, "the server is shutting down", code="draining", kind=SERVER)
        if self._count() >= self._limits.queue:
            raise self._full(f"{self._count()} requests are waiting")

    def _full(self, reason: str) -> Refusal:
        wait = round(min(max(1.0, self._seconds * (1 + self._count())), RETRY_S))
        message = f"{reason}; try again in {wait} s"
        return Refusal(429, message, code="queue_full", kind="rate_limit_error", retry_s=wait)

    def _count(self) -> int:
        return sum(map(len, self._lines.values()))

    def _drop_empty(self, client: str) -> None:
        if not self._lines[client]:
            del self._lines[client]

    def _next(self) -> Ticket:
        with self._changed:
            self._running = None
            while not self._lines:
                self._changed.wait()
            client = next(iter(self._lines))
            self._running = self._lines[client].popleft()
            self._lines.move_to_end(client)
            self._drop_empty(client)
            return self._running

    def _work(self) -> None:
        while True:
            try:
                self._serve(self._next())
            except Exception:  # noqa: BLE001  the others must be answered
                traceback.print_exc()

    def _serve(self, ticket: Ticket) -> None:
        start = time.monotonic()
        ticket.waited_s = start - ticket.entered
        ended = _answered(ticket)
        seconds = time.monotonic() - start
        if ended.answer is not None:
            self._seconds += 0.2 * (seconds - self._seconds)
        try:
            self._ended(ticket, ended, seconds)
        finally:
            ticket.put(ended)


def _answered(ticket: Ticket) -> Ended:
    stream = ticket.ready.stream
    try:
        if not ticket.is_cancelled:
            for item in stream.items():
                ticket.put(item)
        return Ended(stream.answer)
    except Exception as error:  # noqa: BLE001  it is told to the client, and in the log
        return Ended(error=error)
