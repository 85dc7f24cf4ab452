"""Frames: round trips, and rejection of everything that is not a valid frame."""

import json
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from handglass.errors import InputError
from handglass.runtime.remote import frames
from handglass.runtime.remote.frames import FrameError

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        right.settimeout(10)
        yield left, right


def framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"do": "describe", "deadline_s": 1.5, "null": None, "list": [1, "zwei", {"drei": False}]},
        {"text": "图 \udcff \U0001f50d"},
        {"do": "put", "payload": b""},
        {"do": "put", "payload": bytes(range(256)) * 9999},
    ],
)
def test_round_trip(pair: Pair, message: dict[str, object]) -> None:
    with ThreadPoolExecutor(1) as sender:  # more than a socket buffer holds
        sender.submit(frames.send, pair[0], message)
        sender.submit(frames.send, pair[0], {"next": 1})
        assert frames.receive(pair[1]) == message
        assert frames.receive(pair[1]) == {"next": 1}


NO_FRAMES = {
    "length 0": framed(b""),
    "too long": struct.pack(">I", frames.MAX_JSON + 1),
    "as HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "not JSON": framed(b"{do}"),
    "not UTF-8": framed(b'{"do":"\xff"}'),
    "no object": framed(b"[1]"),
    "two values": framed(b"{} {}"),
    "NaN": framed(b'{"x":NaN}'),
    "infinity": framed(b'{"x":-Infinity}'),
    "a key twice": framed(b'{"x":1,"x":2}'),
    "deep": framed(b'{"x":' + b"[" * 100_000),
    "payload is text": framed(b'{"payload":"1"}'),
    "payload is a float": framed(b'{"payload":1.0}'),
    "payload is a bool": framed(b'{"payload":true}'),
    "negative payload": framed(b'{"payload":-1}'),
    "payload too long": framed(b'{"payload":%d}' % (frames.MAX_PAYLOAD + 1)),
    "torn length": b"\0\0",
    "torn text": framed(b'{"do":"describe"}')[:-1],
    "torn payload": framed(b'{"payload":5}') + b"1234",
}


@pytest.mark.parametrize("case", NO_FRAMES)
def test_what_is_no_frame_is_refused(pair: Pair, case: str) -> None:
    pair[0].sendall(NO_FRAMES[case])
    pair[0].close()
    with pytest.raises(FrameError):
        frames.receive(pair[1])


def test_an_end_between_frames_is_an_end(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(EOFError):
        frames.receive(pair[1])


def test_limits_of_the_receiver(pair: Pair) -> None:
    pair[0].sendall(framed(json.dumps({"x": "y" * 100}).encode()))
    with pytest.raises(FrameError, match="between 1 and 99"):
        frames.receive(pair[1], limit=99)


def test_no_payload_where_none_is_allowed(pair: Pair) -> None:
    frames.send(pair[0], {"payload": b"1"})
    with pytest.raises(FrameError, match="payload 1 "):
        frames.receive(pair[1], payload_limit=0)


def test_taking_bytes_as_they_arrive() -> None:
    whole = framed(b'{"a":1}') + framed(b'{"b":2}')
    buffer, taken = bytearray(), []
    for byte in whole:
        buffer.append(byte)
        taken += [message for message in [frames.take(buffer, 100)] if message is not None]
    assert taken == [{"a": 1}, {"b": 2}] and not buffer
    for bad in (framed(b'{"payload":0}'), framed(b"7"), struct.pack(">I", 101)):
        with pytest.raises(FrameError):
            frames.take(bytearray(bad), 100)


@pytest.mark.parametrize("value", [float("nan"), object(), "x" * frames.MAX_JSON])
def test_what_no_frame_can_hold(pair: Pair, value: object) -> None:
    with pytest.raises(InputError):
        frames.send(pair[0], {"x": value})


def test_a_payload_that_is_too_long_is_not_begun(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_PAYLOAD", 3)
    with pytest.raises(InputError, match="4 bytes"):
        frames.send(pair[0], {"payload": b"1234"})
    frames.send(pair[0], {"first": 1})
    assert frames.receive(pair[1]) == {"first": 1}
