"""A client of a device server that sends any message, valid or not.

The client of the product refuses to send invalid requests.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import struct
from typing import Any

TIMEOUT_S = 60


class Caller:
    """A connection; `greet` performs the handshake."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.hello = self.receive()

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def greet(self, key: str) -> dict[str, Any]:
        ours, theirs = "ab" * 32, self.hello["nonce"]
        proof = lambda side: hmac.new(  # noqa: E731
            key.encode(), f"{side}:{theirs}:{ours}".encode(), hashlib.sha256
        ).hexdigest()
        self.send({"nonce": ours, "proof": proof("client")})
        answer = self.receive()
        assert not answer["ok"] or answer["proof"] == proof("server")
        return answer

    def ask(self, do: str, deadline_s: float = 60.0, **fields: Any) -> dict[str, Any]:
        payload = fields.get("payload")
        if payload is not None:
            fields["payload"] = len(payload)
        self.send({"do": do, "deadline_s": deadline_s, **fields}, payload or b"")
        return self.receive()

    def put(self, name: str, data: bytes) -> dict[str, Any]:
        return self.ask("put", name=name, sha256=hashlib.sha256(data).hexdigest(), payload=data)

    def send(self, message: object, payload: bytes = b"") -> None:
        text = json.dumps(message).encode()
        self.socket.sendall(struct.pack(">I", len(text)) + text + payload)

    def receive(self) -> dict[str, Any]:
        """Receive a message. Raises EOFError if the server has closed the connection."""
        (length,) = struct.unpack(">I", self._read(4))
        message = json.loads(self._read(length))
        assert isinstance(message, dict)
        return message

    def hung_up(self) -> bool:
        """Whether the server closes the connection without sending anything."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                part = self.socket.recv(count - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                raise EOFError
            data += part
        return data
