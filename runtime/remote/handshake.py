"""Both sides prove that they know the key, which itself never travels.

Each proof covers a fresh number of either side, so a recorded one is worth nothing later.
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
"""How long a handshake may take."""
LIMIT = 4096
"""Bytes of a frame from somebody who has proved nothing yet."""


class DeviceBusy(DeviceError):  # noqa: N818  a state, which passes
    """The device serves somebody else."""


def fresh_nonce() -> str:
    return secrets.token_hex(32)


def is_nonce(value: object) -> TypeGuard[str]:
    """64 hexadecimal digits, as nonces and proofs are."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def proof(key: str, side: str, server_nonce: str, client_nonce: str) -> str:
    """What only somebody with the key can say; `side` keeps one from repeating the other's."""
    text = f"{side}:{server_nonce}:{client_nonce}"
    secret = key.encode("utf-8", "surrogateescape")  # the environment may hold any bytes
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def is_proof(given: object, expected: str) -> bool:
    """Compared in constant time."""
    return is_nonce(given) and hmac.compare_digest(given, expected)


def hello(server_nonce: str) -> dict[str, Any]:
    return {"protocol": PROTOCOL, "version": VERSION, "nonce": server_nonce}


def welcome(key: str, server_nonce: str, client_nonce: str, previous: str | None) -> dict[str, Any]:
    """`previous`: how the last session died, None if it ended well."""
    known = proof(key, "server", server_nonce, client_nonce)
    return {"ok": True, "proof": known, "previous": previous}


def greet(connection: socket.socket, key: str, where: str) -> str | None:
    """The client's side: how the previous session died, once the server has proved itself.

    Raises MismatchError where key or protocol differ, DeviceBusy, DeviceError; also what
    `frames.receive` raises.
    """
    nonce = _read_hello(_receive(connection), where)
    ours = fresh_nonce()
    frames.send(connection, {"nonce": ours, "proof": proof(key, "client", nonce, ours)})
    answer = _receive(connection)
    if answer.get("ok") is not True:
        raise _refusal(str(answer.get("error"))[:500], where)
    if not is_proof(answer.get("proof"), proof(key, "server", nonce, ours)):
        raise MismatchError(f"{where}: the server does not know the key; it was told nothing")
    previous = answer.get("previous")
    return previous if previous is None else str(previous)[:500]


def _receive(connection: socket.socket) -> dict[str, Any]:
    return frames.receive(connection, LIMIT, payload_limit=0)


def _read_hello(message: dict[str, Any], where: str) -> str:
    nonce = message.get("nonce")
    if message.get("protocol") != PROTOCOL or not is_nonce(nonce):
        raise MismatchError(f"{where}: that is not a handglass device server")
    if message.get("version") != VERSION:
        raise MismatchError(
            f"{where}: the server speaks version {message.get('version')!r:.20} of the device "
            f"protocol, this is {VERSION}; install the same handglass on both sides"
        )
    return nonce


def _refusal(error: str, where: str) -> DeviceError | MismatchError:
    if error.startswith("busy"):
        return DeviceBusy(f"{where}: {error}")
    if error == "wrong key":
        return MismatchError(
            f"{where}: wrong key; give the one that the server was started with (it prints it, "
            "or reads --key-file or HANDGLASS_DEVICE_KEY)"
        )
    return DeviceError(f"{where}: the server refused: {error}")
