"""Frames: a length, a JSON object, and optionally the payload whose size "payload" declares.

Anything else raises `FrameError`, after which the connection must not be used.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

from handglass.errors import InputError

MAX_JSON = 1 << 20
MAX_PAYLOAD = 256 << 20
_LENGTH = struct.Struct(">I")


class FrameError(Exception):
    """The received data is not a valid frame."""


def send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    """Send one frame; bytes under "payload" follow the JSON object. Raises InputError."""
    payload = message.get("payload")
    if payload is None:
        connection.sendall(encode(message))
    elif len(payload) > MAX_PAYLOAD:
        raise InputError(f"a payload of {len(payload)} bytes exceeds the limit of {MAX_PAYLOAD}")
    else:
        connection.sendall(encode({**message, "payload": len(payload)}))
        connection.sendall(payload)


def receive(
    connection: socket.socket, limit: int = MAX_JSON, payload_limit: int = MAX_PAYLOAD
) -> dict[str, Any]:
    """The next message, with the bytes of its payload, if any, under "payload".

    Raises EOFError if the connection ended before the frame, FrameError if it ended inside it.
    """
    prefix = _read(connection, _LENGTH.size, at_start=True)
    message = parse(_read(connection, _length(prefix, limit)))
    if "payload" in message:
        count = message["payload"]
        if type(count) is not int or not 0 <= count <= payload_limit:
            raise FrameError(f"payload {count!r:.80} is not between 0 and {payload_limit}")
        message["payload"] = _read(connection, count)
    return message


def take(buffer: bytearray, limit: int) -> dict[str, Any] | None:
    """Remove and return the first message of `buffer`; None while it is incomplete.

    For frames without a payload. Raises FrameError.
    """
    if len(buffer) < _LENGTH.size:
        return None
    end = _LENGTH.size + _length(buffer[: _LENGTH.size], limit)
    if len(buffer) < end:
        return None
    message = parse(bytes(buffer[_LENGTH.size : end]))
    del buffer[:end]
    if "payload" in message:
        raise FrameError("a payload is not allowed")
    return message


def encode(message: Mapping[str, Any]) -> bytes:
    """The bytes of a frame without its payload. Raises InputError if they exceed the limits."""
    try:
        text = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InputError(f"not serializable as a message: {error}") from error
    if len(text) > MAX_JSON:
        raise InputError(f"a message of {len(text)} bytes exceeds the limit of {MAX_JSON}")
    return _LENGTH.pack(len(text)) + text


def parse(data: bytes) -> dict[str, Any]:
    """The object of a frame. Raises FrameError if it is not strict JSON."""
    try:
        message = json.loads(data.decode(), parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise FrameError(f"a JSON {type(message).__name__}, not an object")
    return message


def _length(prefix: bytes | bytearray, limit: int) -> int:
    (length,) = _LENGTH.unpack(prefix)
    if not 1 <= length <= limit:
        raise FrameError(f"a frame of {length} bytes, must be between 1 and {limit}")
    return int(length)


def _read(connection: socket.socket, count: int, at_start: bool = False) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = connection.recv(min(count - len(data), MAX_JSON))
        if not part and at_start and not data:
            raise EOFError
        if not part:
            raise FrameError(f"the connection ended after {len(data)} of {count} bytes")
        data += part
    return bytes(data)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key occurs twice")
    return table
