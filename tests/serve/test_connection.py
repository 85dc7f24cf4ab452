"""Connections on which nobody asks anything are closed; others are not."""

import asyncio
import socket
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="answers over HTTP: handglass[serve]")

from uvicorn import Config
from uvicorn.server import ServerState

from handglass.runtime.serve.web import connection
from handglass.runtime.serve.web.connection import Connection

HEAD_S = 0.2
HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


async def answer(scope: object, receive: object, send: object) -> None:
    """An ASGI application that takes longer than a head may."""
    await asyncio.sleep(2 * HEAD_S)
    await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]


async def received(*parts: bytes) -> bytes:
    """What comes back until the connection is closed."""
    config = Config(answer, lifespan="off", log_config=None, access_log=False, http=Connection)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(config, ServerState(), {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for part in parts:
        writer.write(part)
        await asyncio.sleep(HEAD_S / 4)
    found = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    server.close()
    return found


@pytest.mark.parametrize("parts", [(), (HEAD,), (HEAD, b"A: b\r\n")])
def test_a_head_that_does_not_come_is_not_waited_for(
    parts: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_S", HEAD_S)
    assert asyncio.run(received(*parts)) == b""


def test_an_answer_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", HEAD_S)
    found = asyncio.run(received(HEAD, b"Connection: close\r\n\r\n"))
    assert found.startswith(b"HTTP/1.1 204")


STALL_S = 0.5
PIECE = bytes(1 << 16)


class Endless:
    """An ASGI application that writes until its client is gone."""

    def __init__(self) -> None:
        self.is_gone = asyncio.Event()
        self.is_stalled = False
        self.written = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        writing = asyncio.ensure_future(self._write(send))
        while (await receive())["type"] != "http.disconnect":
            pass
        writing.cancel()
        self.is_gone.set()

    async def _write(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            self.written += len(PIECE)

    def stall(self) -> None:
        self.is_stalled = True


async def asked(endless: Endless) -> tuple[asyncio.Server, socket.socket]:
    """A server whose client has asked and not yet read."""
    config = Config(endless, lifespan="off", log_config=None, access_log=False)
    config.load()
    loop = asyncio.get_running_loop()
    make = lambda: Connection(  # noqa: E731
        config, ServerState(), {}, stall_s=STALL_S, stalled=endless.stall
    )
    server = await loop.create_server(make, "127.0.0.1", 0)
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, server.sockets[0].getsockname())
    await loop.sock_sendall(client, HEAD + b"\r\n")
    return server, client


def test_who_reads_nothing_is_gone() -> None:
    async def story() -> None:
        endless = Endless()
        server, client = await asked(endless)
        await asyncio.wait_for(endless.is_gone.wait(), 20)
        assert endless.is_stalled and endless.written
        client.close()
        server.close()

    asyncio.run(story())


def test_who_reads_slowly_stays() -> None:
    async def story() -> None:
        endless, loop = Endless(), asyncio.get_running_loop()
        server, client = await asked(endless)
        end = loop.time() + 2 * STALL_S
        while loop.time() < end:
            assert await loop.sock_recv(client, len(PIECE))
            await asyncio.sleep(STALL_S / 50)
        assert not endless.is_gone.is_set() and not endless.is_stalled
        client.close()
        await asyncio.wait_for(endless.is_gone.wait(), 10)
        assert not endless.is_stalled
        server.close()

    asyncio.run(story())
