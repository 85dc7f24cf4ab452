"""handglass-native serve: careless starts, hostile callers, and what a session leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from device_caller import Caller
from native_program import NativeProgram
from native_server import KEY, NORMAL, Server, measure, refused

pytest_plugins = ["native_fixtures"]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"shape": [8], "dtype": "int8", "fill": NORMAL}, "fill 'normal' makes floats"),
        ({"shape": [8], "dtype": "float64", "fill": NORMAL}, "dtype 'float64' is unknown"),
        ({"shape": [0], "dtype": "float32", "fill": NORMAL}, "a size of a shape"),
        ({"shape": [1 << 39] * 9, "dtype": "float32", "fill": NORMAL}, "too large"),
        ({"shape": [8], "dtype": "float32", "fill": {"kind": "normal"}}, "'scale' is missing"),
        ({"shape": [8], "dtype": "float32", "fill": {"kind": "x"}}, "one of normal"),
        ({"shape": [8], "dtype": "int8", "fill": {"kind": "constant", "value": 128}}, "127"),
        (
            {"shape": [8], "dtype": "int8", "fill": {"kind": "uniform", "low": 2, "high": 1}},
            "above",
        ),
        ({"shape": [8], "dtype": "float32", "fill": NORMAL, "more": 1}, "unknown field 'more'"),
        ({"int": 1.5}, "'int' must be an integer"),
        ([], "expected an object"),
    ],
)
def test_items_are_checked(session: Caller, item: object, words: str) -> None:
    refused(session.ask("arguments", id="x", items=[item], copies=1, seed=0), "input", words)


def test_a_wrong_hash_stores_nothing(server: Server, session: Caller) -> None:
    data = server.candidates()
    wrong = hashlib.sha256(data + b"x").hexdigest()
    refused(session.ask("put", name="c", sha256=wrong, payload=data), "mismatch", "sha256 is")
    refused(session.ask("load", name="c"), "input", "put it first")


@pytest.mark.parametrize("name", ["", "../c", "C", ".c", "a/b", "a" * 82, "a\0b"])
def test_names_are_plain(session: Caller, name: str) -> None:
    refused(session.put(name, b"x"), "input", "name")


def test_requests_are_checked(loaded: Caller) -> None:
    refused(loaded.ask("exec"), "input", "'do' must be one of")
    refused(loaded.ask("load"), "input", "'name' is missing")
    refused(loaded.ask("load", name="c", more=1), "input", "unknown field 'more'")
    refused(loaded.ask("describe", kind="vulkan"), "input", "unknown field 'kind'")
    refused(loaded.ask("load", name="c", device="vulkan:0"), "input", "unknown field 'device'")
    refused(loaded.ask("describe", deadline_s=601), "input", "'deadline_s' must be")
    refused(loaded.ask("describe", deadline_s=True), "input", "'deadline_s' must be")
    refused(measure(loaded, "absent"), "mismatch", "no function")
    fields: dict[str, Any] = {"library": "c", "function": "copy", "arguments": "x"}
    refused(loaded.ask("measure", **fields, number=0, samples=1), "input", "'number' must be")
    refused(loaded.ask("drop", arguments="y"), "input", "arguments")
    assert loaded.ask("drop", arguments="x") == {"ok": True}
    assert loaded.ask("drop", library="c") == {"ok": True}
    refused(measure(loaded, "copy"), "input", "arguments")
    assert loaded.ask("describe")["ok"]


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">I", 0),
        struct.pack(">I", (1 << 20) + 1),
        struct.pack(">I", 3) + b"[1]",
        struct.pack(">I", 3) + b"{1}",
        struct.pack(">I", 7) + b'{"a":1 ',
        struct.pack(">I", 9) + b'{"a":NaN}',
        struct.pack(">I", 13) + b'{"a":1,"a":2}',
        struct.pack(">I", 8) + b'{"a":"\xff"',
        struct.pack(">I", 14) + b'{"payload":-1}',
        struct.pack(">I", 21) + b'{"payload":268435457}',
        struct.pack(">I", 15) + b'{"payload":1.0}',
        struct.pack(">I", 200000) + b'{"a":' + b"[" * 99990 + b"]" * 99990 + b"}" + b" " * 14,
    ],
)
def test_what_is_no_frame_ends_the_session(server: Server, frame: bytes) -> None:
    with server.open() as caller:
        caller.socket.sendall(frame)
        assert caller.hung_up()
    assert server.previous() == "the client sent a malformed frame"


def test_a_key_is_needed(server: Server) -> None:
    with Caller(server.port) as caller:
        assert caller.hello["protocol"] == "handglass-device" and caller.hello["version"] == 1
        assert caller.greet(KEY + "x") == {"ok": False, "error": "wrong key"}
        assert caller.hung_up()
    for message in ({}, {"nonce": "ab" * 32}, {"nonce": 1, "proof": 2}, {"do": "describe"}):
        with Caller(server.port) as caller:
            caller.send(message)
            assert caller.receive()["ok"] is False
            assert caller.hung_up()
    for data in (struct.pack(">I", 4097), b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", 2) + b"[]"):
        with Caller(server.port) as caller:
            caller.socket.sendall(data)
            assert caller.hung_up()


def test_nonces_are_fresh(server: Server) -> None:
    with Caller(server.port) as first, Caller(server.port) as second:
        assert first.hello["nonce"] != second.hello["nonce"]


def test_one_at_a_time(server: Server, session: Caller) -> None:
    with Caller(server.port) as second:
        answer = second.greet(KEY)
        assert answer["ok"] is False and answer["error"].startswith("busy")
    assert session.ask("describe")["ok"]


def test_silent_callers_keep_nobody_waiting(server: Server) -> None:
    silent = [Caller(server.port) for _ in range(20)]
    with server.open() as caller:
        assert caller.ask("describe")["ok"]
    for one in silent:
        one.socket.close()


def test_the_folder_of_a_session_goes_with_it(server: Server) -> None:
    with server.open() as caller:
        assert caller.put("c", server.candidates())["ok"]
        (folder,) = server.folder.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700 and len(list(folder.iterdir())) == 1
    assert server.previous() is None  # waits until the previous session has ended
    deadline = time.monotonic() + 20
    while list(server.folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(server.folder.iterdir())


def test_a_full_disk_is_said(program: NativeProgram, server: Server) -> None:
    """A limit on file sizes simulates a full disk."""
    key = server.folder.parent / "key"
    command = program.command("serve", "--port", 0, "--key-file", key, cpu="max")
    limited = ["sh", "-c", 'trap "" XFSZ; ulimit -f 8; exec "$@"', "sh", *command]
    with subprocess.Popen(limited, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().split(":")[1].split(",")[0])
            with Caller(port) as caller:
                assert caller.greet(KEY)["ok"]
                refused(caller.put("large", bytes(100_000)), "device", "disk space")
                assert caller.put("small", bytes(100))["ok"]
        finally:
            process.terminate()


def test_starting_is_careful(program: NativeProgram, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o644)
    program.fails(3, "chmod 600", "serve", "--port", 0, "--key-file", key)
    key.chmod(0o600)
    exposing = ["serve", "--port", 0, "--key-file", key, "--host", "0.0.0.0"]
    program.fails(2, "add --expose if you mean it", *exposing)
    program.fails(2, "--dir", "serve", "--port", 0, "--key-file", key, "--dir", tmp_path / "no")
    program.fails(2, "serve needs --port and --key-file", "serve", "--port", 0)
    key.write_text("short")
    program.fails(2, "can be guessed", "serve", "--port", 0, "--key-file", key)


def test_a_killed_server_takes_its_session_with_it(program: NativeProgram, server: Server) -> None:
    if program.emulator:
        pytest.skip("the emulator does not pass the signal on")
    key = server.folder.parent / "key"
    command = program.command("serve", "--port", 0, "--key-file", key)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().split(":")[1].split(",")[0])
            with Caller(port) as caller:
                assert caller.greet(KEY)["ok"]
                os.kill(process.pid, signal.SIGKILL)
                assert caller.hung_up()
        finally:
            process.kill()


def test_json_of_the_description_is_strict(program: NativeProgram) -> None:
    assert isinstance(json.loads(program.run("describe").stdout), dict)
