"""Runs the server until a signal: the first lets running answers end, the second ends at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn

from ..access import Access
from ..desk import Desk
from ..limits import Limits
from ..served import Models
from .app import make_app
from .connection import Connection
from .log import Log
from .service import Service

POLL_S = 0.05
CONNECTIONS = 512
HEADER_BYTES = 64 << 10
IDLE_S = 15
LAST_S = 10
"""Seconds in which clients must have read their answers when the server ends."""


class Server(uvicorn.Server):
    """Leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(
    models: Models,
    limits: Limits,
    access: Access,
    listener: socket.socket,
    announce: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called once requests are taken."""
    asyncio.run(_run(models, limits, access, listener, announce))


async def _run(
    models: Models,
    limits: Limits,
    access: Access,
    listener: socket.socket,
    announce: Callable[[], None],
) -> None:
    log = Log()
    service = Service(models, limits, log)
    connection = partial(Connection, stall_s=limits.stall_s, stalled=service.stalled)
    server = Server(_config(make_app(service, access), connection))
    drain = _Drain(service.desk, server, log)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, drain.signalled, number)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(POLL_S)
    announce()
    await serving


class _Drain:
    def __init__(self, desk: Desk, server: Server, log: Log) -> None:
        self._desk = desk
        self._server = server
        self._log = log
        self._task: asyncio.Task[None] | None = None

    def signalled(self, number: int) -> None:
        if self._task is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(128 + number)  # the model's thread may be in compiled code
        self._desk.drain()
        self._log.note("draining: running answers are finished, new ones refused")
        self._task = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        """Until then the server listens, to refuse in words."""
        while self._desk.is_busy:
            await asyncio.sleep(POLL_S)
        self._server.should_exit = True


def _config(app: Any, connection: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=LAST_S,
    )
