"""Who may send a large body now: a few at once, and each address at most its share of them.

A body waits in the line of its address. The next place is for the address that holds the fewest,
and equals take turns: one that sends many bodies, or sends them slowly, makes only its own wait.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..refusal import Refusal

RETRY_S = 5
"""What a client is told to wait if its turn did not come in time."""
SITE = 64
"""Bits of an IPv6 address that belong to one site: its hosts can choose the others."""


class Uploads:
    """`places`: bodies at once; `share`: those of one address; `wait_s`: the longest wait."""

    def __init__(self, places: int, share: int, wait_s: float) -> None:
        self._free = places
        self._share = share
        self._wait_s = wait_s
        self._held: Counter[str] = Counter()
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def place(self, address: str) -> AsyncIterator[None]:
        """A place while the block runs. Raises Refusal if none is free in time."""
        line = site_of(address)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(line, deque()).append(turn)
        self._admit()
        try:
            await asyncio.wait((turn,), timeout=self._wait_s)
            if not turn.done():
                raise _busy()
            yield
        finally:
            self._leave(line, turn)

    def _admit(self) -> None:
        """Give free places to the first of the lines whose address has not got its share."""
        while self._free and (line := self._next()) is not None:
            self._lines[line].popleft().set_result(None)
            self._lines.move_to_end(line)
            self._drop_empty(line)
            self._held[line] += 1
            self._free -= 1

    def _next(self) -> str | None:
        waiting = (line for line in self._lines if self._held[line] < self._share)
        return min(waiting, key=self._held.__getitem__, default=None)

    def _leave(self, line: str, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            self._lines[line].remove(turn)
            self._drop_empty(line)
            return
        self._held -= Counter((line,))  # which forgets those that hold none
        self._free += 1
        self._admit()

    def _drop_empty(self, line: str) -> None:
        if not self._lines[line]:
            del self._lines[line]


def site_of(address: str) -> str:
    """The address, or of an IPv6 address the part that its owner cannot choose."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address) or known.ipv4_mapped is not None:
        return address
    return str(ipaddress.ip_network((known, SITE), strict=False))


def _busy() -> Refusal:
    message = f"too many large requests arrive at the same time; try again in {RETRY_S} s"
    return Refusal(429, message, code="uploads_busy", kind="rate_limit_error", retry_s=RETRY_S)
