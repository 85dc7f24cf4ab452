"""Both sides prove that they know the key without sending it."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from handglass.errors import DeviceError, MismatchError
from handglass.runtime.remote import frames, handshake
from handglass.runtime.remote.client import DeviceClient, DeviceGone
from handglass.runtime.remote.handshake import DeviceBusy, proof
from handglass.runtime.remote.local import Endpoint

KEY = "a key that is long enough"


def greeted(answer: Callable[[dict[str, Any], str], dict[str, Any]], **hello: Any) -> str | None:
    """The client's result for a server that sends `hello` and then `answer(message, nonce)`."""
    ours, theirs = socket.socketpair()
    nonce = handshake.fresh_nonce()

    def serve() -> None:
        frames.send(theirs, {**handshake.hello(nonce), **hello})
        with contextlib.suppress(EOFError, OSError):  # the client may close the connection
            frames.send(theirs, answer(frames.receive(theirs), nonce))
        theirs.close()

    server = threading.Thread(target=serve)
    with ours:
        server.start()
        try:
            return handshake.greet(ours, KEY, "there")
        finally:
            ours.close()
            server.join(10)


def test_a_server_with_the_key_is_believed() -> None:
    def answer(message: dict[str, Any], nonce: str) -> dict[str, Any]:
        assert set(message) == {"nonce", "proof"}
        assert message["proof"] == proof(KEY, "client", nonce, message["nonce"])
        return handshake.welcome(KEY, nonce, message["nonce"], "SIGSEGV")

    assert greeted(answer) == "SIGSEGV"


@pytest.mark.parametrize(
    "forged",
    [
        lambda message, nonce: proof(
            "another key, just as long", "server", nonce, message["nonce"]
        ),
        lambda message, nonce: message["proof"],  # the client's own proof, reflected
        lambda message, nonce: proof(KEY, "server", nonce, nonce),  # from another handshake
        lambda message, nonce: "0" * 64,
        lambda message, nonce: None,
        lambda message, nonce: "ü" * 64,
    ],
)
def test_a_server_without_the_key_is_not(
    forged: Callable[[dict[str, Any], str], Any],
) -> None:
    with pytest.raises(MismatchError, match="key"):
        greeted(lambda message, nonce: {"ok": True, "proof": forged(message, nonce)})


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        ({"protocol": "ssh"}, "handglass device server"),
        ({"nonce": "0" * 63}, "handglass device server"),
        ({"nonce": "G" * 64}, "handglass device server"),
        ({"nonce": 5}, "handglass device server"),
        ({"version": 2}, "version 2 .*1;"),
    ],
)
def test_another_protocol_is_told_nothing(hello: dict[str, Any], words: str) -> None:
    heard = []
    with pytest.raises(MismatchError, match=words):
        greeted(lambda message, nonce: heard.append(message) or {}, **hello)  # type: ignore[func-returns-value]
    assert not heard


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ("wrong key", MismatchError, "wrong key"),
        ("busy: another client", DeviceBusy, "busy: another client"),
        ("no more processes", DeviceError, "no more processes"),
    ],
)
def test_refusals(error: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        greeted(lambda message, nonce: {"ok": False, "error": error})


def test_the_key_may_hold_any_bytes() -> None:
    assert proof("\udcff" * 20, "client", "0", "1") != proof("\udcfe" * 20, "client", "0", "1")


def connect(device: Endpoint) -> tuple[socket.socket, str]:
    """A connection, and the server's nonce."""
    connection = socket.create_connection((device.host, device.port), 20)
    return connection, str(frames.receive(connection)["nonce"])


def test_the_wrong_key_is_refused_in_words(device: Endpoint) -> None:
    with pytest.raises(MismatchError, match="wrong key"):
        DeviceClient(device.host, device.port, device.key + "0")
    DeviceClient(*device).close()


def test_a_recorded_proof_is_worth_nothing(device: Endpoint) -> None:
    first, nonce = connect(device)
    ours = handshake.fresh_nonce()
    recorded = {"nonce": ours, "proof": proof(device.key, "client", nonce, ours)}
    with first:
        frames.send(first, recorded)
        assert frames.receive(first)["ok"] is True
    second, _ = connect(device)
    with second:
        frames.send(second, recorded)
        assert frames.receive(second) == {"ok": False, "error": "wrong key"}
        with pytest.raises(EOFError):
            frames.receive(second)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"nonce": "0" * 64},
        {"nonce": 1, "proof": "0" * 64},
        {"nonce": "0" * 64, "proof": "0" * 64, "do": "describe", "x": "y" * 5000},
        {"nonce": "0" * 64, "proof": "0" * 64, "payload": b"12"},
    ],
)
def test_strangers_get_no_further(device: Endpoint, message: dict[str, Any]) -> None:
    connection, _ = connect(device)
    with connection:
        frames.send(connection, message)
        with pytest.raises((EOFError, ConnectionResetError)):
            while frames.receive(connection)["ok"] is False:  # "wrong key", at most
                pass
    DeviceClient(*device).close()


def test_a_request_before_the_welcome_is_refused(device: Endpoint) -> None:
    connection, nonce = connect(device)
    ours = handshake.fresh_nonce()
    with connection:
        greeting = {"nonce": ours, "proof": proof(device.key, "client", nonce, ours)}
        request = frames.encode({"do": "describe", "deadline_s": 1})
        connection.sendall(frames.encode(greeting) + request)
        with pytest.raises((EOFError, ConnectionResetError)):
            frames.receive(connection)


def test_a_server_that_hangs_up_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        hang_up = threading.Thread(target=lambda: listener.accept()[0].close())
        hang_up.start()
        with pytest.raises(DeviceGone, match=f"{host}:{port}"):
            DeviceClient(host, port, KEY)
        hang_up.join(10)
