"""Clients that send slowly or do not read: they wait for themselves, and others are answered."""

import http.client
import json
import socket
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn", reason="answers over HTTP: handglass[serve]")
pytest.importorskip("llguidance", reason="answers over HTTP: handglass[serve]")

from serve_fakes import ANSWER, FAKES
from serve_process import CHAT, Server, serving

from handglass.runtime.serve.limits import SMALL_BODY, UPLOADS

BUFFER = 4096
"""Bytes that the sockets of both ends take; the kernel doubles it."""
LIMITS = {"piece_s": 0.3, "stall_s": 0.3, "send_buffer": BUFFER}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("serve") / "log"
    with serving([FAKES, json.dumps(LIMITS)], log) as running:
        yield running
    assert "Traceback" not in log.read_text()


def large(text: str) -> bytes:
    """A body that needs a place."""
    body = {"model": "fake", "messages": [{"role": "user", "content": text}]}
    return json.dumps(body).encode() + b" " * SMALL_BODY


def begun(server: Server, body: bytes, sent: int) -> http.client.HTTPConnection:
    """A request of which some bytes never come."""
    connection = server.connect()
    connection.putrequest("POST", CHAT)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:sent])
    return connection


def test_bodies_that_stop_arriving_let_others_in(server: Server) -> None:
    body = large("x")
    slow = [begun(server, body, len(body) - 10) for _ in range(2 * UPLOADS)]
    start = time.monotonic()
    assert server.post(CHAT, body).text == ANSWER
    assert time.monotonic() - start < 20, "it waited as long as all may take"
    for connection in slow:
        response = connection.getresponse()
        error = json.loads(response.read())["error"]
        assert (response.status, error["code"]) == (408, "body_too_slow")
        assert "256 KB in 0.3 s" in error["message"]
        connection.close()


def test_who_does_not_read_is_hung_up_on(server: Server) -> None:
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    reader.connect(("127.0.0.1", server.port))
    messages = [{"role": "user", "content": "x"}]
    fields = {"stream": True, "logprobs": True, "top_logprobs": 20}  # long events
    body = json.dumps({"model": "endless", "messages": messages, **fields}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    reader.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    server.wait_for("stalled_total", 1)
    server.wait_for("answers_total", 1, model="endless", ended="cancelled")
    assert server.chat("fake", "x").text == ANSWER, "its turn is free"
    reader.close()
    assert "a client stopped reading" in server.log.read_text()
