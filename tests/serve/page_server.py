"""A small server that speaks to the chat page as `handglass serve` does, with answers of a test.

It streams what the test tells it to, also what a real server says only when it is in trouble: busy,
draining, a wrong token, a line that breaks in the middle of an answer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "runtime" / "serve" / "page.html"
BODY_LIMIT = 64 << 20


@dataclass
class Reply:
    """What the server says to one question."""

    text: str = "A red square."
    thinking: str = ""
    finish: str = "stop"
    status: int = 200
    error: dict[str, Any] = field(default_factory=dict)
    retry_after: float | None = None
    pace: float = 0.0  # seconds before each piece
    breaks_after: int | None = None  # pieces; the connection then ends without [DONE]
    stalls_after: int | None = None  # pieces; afterwards nothing comes, on an open connection
    usage: dict[str, Any] = field(default_factory=dict)


class PageServer:
    """Serves the page and a model on a port of its own; `requests` are the questions it got."""

    def __init__(self, models: list[dict[str, Any]] | None = None) -> None:
        self.models = models or [{"id": "demo", "object": "model"}]
        self.token = ""
        self.replies: list[Reply] = []  # for the next questions; afterwards a plain one
        self.requests: list[dict[str, Any]] = []
        self.cancelled = threading.Event()  # a client left in the middle of an answer
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(_Handler):
            fake = server

        return Handler


class _Handler(BaseHTTPRequestHandler):
    fake: PageServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        if self.path == "/":
            page = PAGE.read_bytes()
            policy = {"Content-Security-Policy": strict_policy(page.decode())}
            self._send(200, page, "text/html; charset=utf-8", policy)
        elif self.path == "/v1/models" and self._is_admitted():
            self._json(200, {"object": "list", "data": self.fake.models})
        elif self.path != "/v1/models":
            self._json(404, {"error": {"message": "no such page"}})

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers["Content-Length"]), BODY_LIMIT))
        if not self._is_admitted():
            return
        self.fake.requests.append(json.loads(body))
        reply = self.fake.replies.pop(0) if self.fake.replies else Reply()
        if reply.status != 200:
            wait = {} if reply.retry_after is None else {"Retry-After": str(reply.retry_after)}
            self._json(reply.status, {"error": reply.error}, wait)
            return
        self._stream(reply)

    def _is_admitted(self) -> bool:
        token = self.fake.token
        if not token or self.headers.get("Authorization") == f"Bearer {token}":
            return True
        self._json(401, {"error": {"message": "a token is needed", "code": "invalid_api_key"}})
        return False

    def _stream(self, reply: Reply) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for number, event in enumerate(events(reply)):
                if number == reply.breaks_after:
                    return
                if number == reply.stalls_after:
                    self._wait_until_left()
                time.sleep(reply.pace)
                self.wfile.write(f"data: {event}\n\n".encode())
                self.wfile.flush()
        except OSError:
            self.fake.cancelled.set()

    def _wait_until_left(self) -> None:
        """Raises OSError when the client has closed the connection."""
        if not self.connection.recv(1):
            raise ConnectionError

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", headers)

    def _send(
        self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        sizes = {"Content-Type": kind, "Content-Length": str(len(data))}
        for name, value in {**sizes, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def events(reply: Reply) -> Iterator[str]:
    """The data of each server-sent event: role, thoughts, text, the end, usage, [DONE]."""
    yield chunk({"role": "assistant"})
    for piece in pieces(reply.thinking):
        yield chunk({"reasoning_content": piece})
    for piece in pieces(reply.text):
        yield chunk({"content": piece})
    yield chunk({}, reply.finish)
    count = len(pieces(reply.text))
    usage = {"prompt_tokens": 100, "completion_tokens": count, "total_tokens": 100 + count}
    yield json.dumps({"choices": [], "usage": usage | reply.usage})
    yield "[DONE]"


def chunk(delta: dict[str, str], finish: str | None = None) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def pieces(text: str) -> list[str]:
    """Words with the spaces before them, and Chinese characters one by one."""
    return re.findall(r"\s*[\u4e00-\u9fff]|\s*[^\s\u4e00-\u9fff]+|\s+$", text)


def strict_policy(page: str) -> str:
    """The strictest policy under which the page has to work: nothing runs but its one script."""
    style, script = (
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (_only(page, "style"), _only(page, "script"))
    )
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _only(page: str, tag: str) -> str:
    (text,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page, re.DOTALL)
    return str(text)
