"""Mutual authentication: both sides prove that they know the key without sending it.

Each proof covers a fresh nonce of either side, so a recorded proof cannot be replayed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import socket
from typing import Any, TypeGuard

from handglass.errors import DeviceError, MismatchError

from . import frames

PROTOCOL, VERSION = "handglass-device", 1
SECONDS = 10.0
"""Time limit of a handshake."""
LIMIT = 4096
"""Maximum bytes of a frame from an unauthenticated peer."""


class DeviceBusy(DeviceError):  # noqa: N818  a temporary state
    """The device serves another client."""


def fresh_nonce() -> str:
    return secrets.token_hex(32)


def is_nonce(value: object) -> TypeGuard[str]:
    """Whether the value is 64 hexadecimal digits, the form of nonces and proofs."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def proof(key: str, side: str, server_nonce: str, client_nonce: str) -> str:
    """An HMAC-SHA256 over both nonces; `side` prevents reflecting the peer's proof."""
    text = f"{side}:{server_nonce}:{client_nonce}"
    secret = key.encode("utf-8", "surrogateescape")  # the environment may hold any bytes
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def is_proof(given: object, expected: str) -> bool:
    """Whether `given` is the expected proof, compared in constant time."""
    return is_nonce(given) and hmac.compare_digest(given, expected)


def hello(server_nonce: str) -> dict[str, Any]:
    return {"protocol": PROTOCOL, "version": VERSION, "nonce": server_nonce}


def welcome(key: str, server_nonce: str, client_nonce: str, previous: str | None) -> dict[str, Any]:
    """The server's answer; `previous`: how the last session died, None if it ended normally."""
    known = proof(key, "server", server_nonce, client_nonce)
    return {"ok": True, "proof": known, "previous": previous}


def greet(connection: socket.socket, key: str, where: str) -> str | None:
    """The client's side of the handshake; returns how the previous session died, or None.

    Raises MismatchError if key or protocol differ, DeviceBusy, DeviceError, and the errors of
    `frames.receive`.
    """
    nonce = _read_hello(_receive(connection), where)
    ours = fresh_nonce()
    frames.send(connection, {"nonce": ours, "proof": proof(key, "client", nonce, ours)})
    answer = _receive(connection)
    if answer.get("ok") is not True:
        raise _refusal(str(answer.get("error"))[:500], where)
    if not is_proof(answer.get("proof"), proof(key, "server", nonce, ours)):
        raise MismatchError(f"{where}: the server does not know the key; nothing was sent to it")
    previous = answer.get("previous")
    return previous if previous is None else str(previous)[:500]


def _receive(connection: socket.socket) -> dict[str, Any]:
    return frames.receive(connection, LIMIT, payload_limit=0)


def _read_hello(message: dict[str, Any], where: str) -> str:
    nonce = message.get("nonce")
    if message.get("protocol") != PROTOCOL or not is_nonce(nonce):
        raise MismatchError(f"{where}: not a handglass device server")
    if message.get("version") != VERSION:
        raise MismatchError(
            f"{where}: the server uses version {message.get('version')!r:.20} of the device "
            f"protocol, this client version {VERSION}; install the same handglass on both sides"
        )
    return nonce


def _refusal(error: str, where: str) -> DeviceError | MismatchError:
    if error.startswith("busy"):
        return DeviceBusy(f"{where}: {error}")
    if error == "wrong key":
        return MismatchError(
            f"{where}: wrong key; use the key of the server (it prints a generated key, or reads "
            "one from --key-file or HANDGLASS_DEVICE_KEY)"
        )
    return DeviceError(f"{where}: the server refused: {error}")
