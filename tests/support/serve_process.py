"""A server in a process of its own, and requests to it."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[2]
START_S, END_S = 60.0, 20.0
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


@dataclass
class Reply:
    status: int
    headers: Any
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def text(self) -> str:
        """The text of a chat completion."""
        assert self.status == 200, self.data
        return str(self.json["choices"][0]["message"]["content"])


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout: float = 30.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def get(self, path: str, **headers: str) -> Reply:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        """`body`: bytes, or what becomes JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._ask("POST", path, data, {"Content-Type": "application/json"} | headers)

    def chat(self, model: str, content: Any, **fields: Any) -> Reply:
        messages = [{"role": "user", "content": content}]
        return self.post(CHAT, {"model": model, "messages": messages, **fields})

    def open_stream(self, model: str, content: Any, **fields: Any) -> http.client.HTTPConnection:
        """A connection on which a streamed answer has begun."""
        connection = self.connect()
        messages = [{"role": "user", "content": content}]
        body = json.dumps({"model": model, "messages": messages, "stream": True, **fields})
        connection.request("POST", CHAT, body, {"Content-Type": "application/json"})
        return connection

    def stream(self, model: str, content: Any, **fields: Any) -> list[dict[str, Any]]:
        """The chunks of a streamed answer."""
        connection = self.open_stream(model, content, **fields)
        try:
            return events(connection.getresponse())
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 if it has not been counted yet."""
        text = self.get("/metrics").data.decode()
        inner = ",".join(f'{k}="{v}"' for k, v in sorted(labels.items()))
        start = f"handglass_{name}{{{inner}}} " if labels else f"handglass_{name} "
        lines = (line for line in text.splitlines() if line.startswith(start))
        return float(next(lines, "x 0").split()[-1])

    def wait_for(self, name: str, value: float, seconds: float = 10.0, **labels: str) -> None:
        """Wait until a metric has a value."""
        end = time.monotonic() + seconds
        while (found := self.metric(name, **labels)) != value:
            assert time.monotonic() < end, f"{name} is {found}, expected {value}"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(END_S)

    def _ask(self, method: str, path: str, data: bytes | None, headers: Any) -> Reply:
        connection = self.connect()
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()


@contextmanager
def serving(command: Sequence[object], log: Path) -> Iterator[Server]:
    """The command must print a line of JSON with its port once it takes requests."""
    paths = [str(ROOT), *(p for p in sys.path if p)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with log.open("w") as errors:
        words = [sys.executable, *map(str, command)]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, cwd=ROOT
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        yield Server(process, json.loads(line)["port"], log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(END_S)
        process.stdout.close()  # type: ignore[union-attr]


def bundle_command(bundle: Path, *flags: object) -> list[object]:
    return ["-m", "handglass.cli.main", "serve", bundle, "--port", 0, "--json", *flags]


def data_url(picture: Image.Image | bytes) -> str:
    if isinstance(picture, bytes):
        data = picture
    else:
        out = io.BytesIO()
        picture.save(out, "PNG")
        data = out.getvalue()
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def shown(*pictures: Any, text: str = "What is this?") -> list[dict[str, Any]]:
    """The content of a message with pictures, then text; a string is a URL."""
    urls = [p if isinstance(p, str) else data_url(p) for p in pictures]
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": u}} for u in urls]
    return [*parts, {"type": "text", "text": text}]


def events(response: http.client.HTTPResponse) -> list[dict[str, Any]]:
    """The values of a stream of server-sent events."""
    lines = response.read().decode().splitlines()
    values = [line[len("data: ") :] for line in lines if line.startswith("data: ")]
    return [json.loads(value) for value in values if value != "[DONE]"]
