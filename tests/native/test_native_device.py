"""handglass-native serve: the device protocol, and hostile callers."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from device_caller import Caller
from native_program import NativeProgram

KEY = "a key of the tests, 0123456789abcdef"
ENTRY = "int __tvm_ffi_{name}(void* self, const void* arguments, int count, void* result) {body}"
# In TVM's calling convention an argument is {int32 type, int32, pointer}; a tensor is an object
# with a header of 24 bytes, followed by its data pointer.
DATA = "(*(float**)(((char**)arguments)[2 * {n} + 1] + 24))"
CANDIDATES = {
    "copy": f"{{ for (int i = 0; i < 8; ++i) {DATA.format(n=1)}[i] = {DATA.format(n=0)}[i];"
    " return 0; }",
    "touch": f"{{ {DATA.format(n=0)}[0] += 1; return 0; }}",
    "nan": f'{{ {DATA.format(n=1)}[3] = __builtin_nanf(""); return 0; }}',
    "segfault": "{ *(volatile int*)8 = 1; return 0; }",
    "illegal": '{ __asm__ volatile (".inst 0" ); return 0; }',
    "forever": "{ volatile int on = 1; while (on) {} return 0; }",
}
LACKING = (
    "int mystery(void); int __tvm_ffi_copy(void* s, void* a, int n, void* r) {return mystery();}"
)
NORMAL = {"kind": "normal", "scale": 1.0}
PAIR = [{"shape": [8], "dtype": "float32", "fill": NORMAL}] * 2


@cache
def library(machine: str, source: str, folder: Path) -> bytes:
    """A shared library that does not use libc, like compiled models."""
    pytest.importorskip("ziglang", reason="compiles with zig")
    if machine == "x86_64":
        source = source.replace(".inst 0", "ud2")
    name = hashlib.sha256(source.encode()).hexdigest()[:12]
    file, made = folder / f"{name}.c", folder / f"{name}-{machine}.so"
    file.write_text(source)
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-none"]
    flags = ["-shared", "-nostdlib", "-O1", "-fno-sanitize=undefined", "-w"]
    subprocess.run([*zig, *flags, str(file), "-o", str(made)], check=True)
    return made.read_bytes()


@dataclass(frozen=True)
class Server:
    machine: str
    port: int
    folder: Path
    process: subprocess.Popen[str]

    def open(self) -> Caller:
        caller = Caller(self.port)
        answer = caller.greet(KEY)
        assert answer["ok"], answer
        return caller

    def previous(self) -> str | None:
        """How the last session ended, as reported to the next one."""
        with Caller(self.port) as caller:
            description: str | None = caller.greet(KEY)["previous"]
            return description

    def candidates(self) -> bytes:
        names = "\n".join(ENTRY.format(name=n, body=b) for n, b in CANDIDATES.items())
        return library(self.machine, names, self.folder.parent)


@pytest.fixture(scope="module")
def server(program: NativeProgram, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    key, sessions = folder / "key", folder / "sessions"
    key.write_text(KEY + "\n")
    key.chmod(0o600)
    sessions.mkdir()
    flags = ["--port", 0, "--key-file", key, "--dir", sessions, "--threads", 2]
    command = program.command("serve", *flags, cpu="max")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split(":")[1].split(",")[0])
        try:
            yield Server(program.machine, port, sessions, process)
            assert process.poll() is None, "the server is gone"
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0 and not list(sessions.iterdir())


@pytest.fixture
def session(server: Server) -> Iterator[Caller]:
    with server.open() as caller:
        yield caller


@pytest.fixture
def loaded(server: Server, session: Caller) -> Caller:
    """A session with the candidates as `c`, and two tensors and a number as `x`."""
    assert session.put("c", server.candidates()) == {"ok": True}
    assert session.ask("load", name="c") == {"ok": True}
    items = [*PAIR, {"int": -5}]
    assert session.ask("arguments", id="x", items=items, copies=3, seed=1)["bytes"] == 3 * 64
    return session


def refused(answer: dict[str, Any], kind: str, words: str) -> None:
    assert answer["ok"] is False and answer["kind"] == kind and words in answer["error"], answer


def measure(caller: Caller, function: str, deadline_s: float = 60) -> dict[str, Any]:
    fields: dict[str, Any] = {"library": "c", "function": function, "arguments": "x"}
    return caller.ask("measure", deadline_s, **fields, number=10, samples=3)


def compare(caller: Caller, function: str, seed: int = 0) -> list[dict[str, Any]]:
    fields: dict[str, Any] = {"reference": "c", "candidate": "d", "function": function}
    fields["arguments"] = "x"
    answer = caller.ask("compare", **fields, seed=seed)
    assert answer["ok"], answer
    rows: list[dict[str, Any]] = answer["items"]
    return rows


def test_describe_tells_the_machine(session: Caller, server: Server) -> None:
    description = session.ask("describe")
    assert description["ok"] and description["threads"] == 2 and description["runtime"] == "native"
    assert description["machine"]["architecture"] == server.machine
    assert set(description["machine"]) == {
        "architecture",
        "model",
        "flags",
        "cores",
        "memory",
        "l2",
    }


def test_a_library_runs(loaded: Caller) -> None:
    answer = measure(loaded, "copy")
    assert answer["ok"] and len(answer["seconds"]) == 3 and min(answer["seconds"]) > 0


def test_equal_is_told_from_different(server: Server, loaded: Caller) -> None:
    assert loaded.put("d", server.candidates())["ok"] and loaded.ask("load", name="d")["ok"]
    rows = compare(loaded, "copy")
    assert [row["index"] for row in rows] == [0, 1]
    assert all(row["snr_db"] is None and row["finite"] for row in rows)
    assert rows[0]["largest"] == rows[1]["largest"] > 0
    double = server.candidates().replace(b"", b"")  # the same code under another name
    assert loaded.put("d", double)["ok"]
    refused(loaded.ask("measure", library="d", function="copy", arguments="x", number=1, samples=1),
            "input", "not loaded yet")  # fmt: skip


def test_a_candidate_must_not_write_its_input(server: Server, loaded: Caller) -> None:
    """The reference does nothing; the candidate adds one to an input."""
    quiet = ENTRY.format(name="touch", body="{ return 0; }")
    assert loaded.put("d", server.candidates())["ok"] and loaded.ask("load", name="d")["ok"]
    assert loaded.put("c", library(server.machine, quiet, server.folder.parent))["ok"]
    assert loaded.ask("load", name="c")["ok"]
    first, second = compare(loaded, "touch")
    assert first["max_error"] == pytest.approx(1, rel=1e-6) and first["snr_db"] < 30
    assert second["snr_db"] is None


def test_what_is_no_number_is_told(server: Server, loaded: Caller) -> None:
    quiet = ENTRY.format(name="nan", body="{ return 0; }")
    assert loaded.put("d", server.candidates())["ok"] and loaded.ask("load", name="d")["ok"]
    assert loaded.put("c", library(server.machine, quiet, server.folder.parent))["ok"]
    assert loaded.ask("load", name="c")["ok"]
    assert [row["finite"] for row in compare(loaded, "nan")] == [True, False]


@pytest.mark.parametrize(
    ("dtype", "fill", "nbytes", "low", "high"),
    [
        ("float32", {"kind": "normal", "scale": 2.0}, 4000, 4, 14),
        ("float32", {"kind": "uniform", "low": -3, "high": 0.5}, 4000, 2.9, 3),
        ("float16", {"kind": "uniform", "low": 0, "high": 8}, 2000, 7.5, 8),
        ("bfloat16", {"kind": "normal", "scale": 1.0}, 2000, 2, 7),
        ("uint16", {"kind": "bfloat16", "scale": 1.0}, 2000, 2, 7),
        ("uint32", {"kind": "bfloat16", "scale": 100.0}, 4000, 200, 700),
        ("int8", {"kind": "uniform", "low": -128, "high": 127}, 1000, 120, 128),
        ("uint8", {"kind": "constant", "value": 255}, 1000, 255, 255),
        ("int32", {"kind": "uniform", "low": 7, "high": 9}, 4000, 9, 9),
        ("uint16", {"kind": "constant", "value": 65535}, 2000, 65535, 65535),
        ("uint32", {"kind": "constant", "value": 1 << 31}, 4000, 1 << 31, 1 << 31),
        ("int64", {"kind": "constant", "value": -(1 << 40)}, 8000, 1 << 40, 1 << 40),
        ("float32", {"kind": "constant", "value": -2.5}, 4000, 2.5, 2.5),
    ],
)
def test_fills(
    server: Server,
    session: Caller,
    dtype: str,
    fill: dict[str, Any],
    nbytes: int,
    low: float,
    high: float,
) -> None:
    quiet = library(
        server.machine, ENTRY.format(name="nothing", body="{ return 0; }"), server.folder.parent
    )
    assert session.put("c", quiet)["ok"] and session.put("d", quiet)["ok"]
    assert session.ask("load", name="c")["ok"] and session.ask("load", name="d")["ok"]
    item = {"shape": [8, 125], "dtype": dtype, "fill": fill}
    made = session.ask("arguments", id="x", items=[item, item], copies=1, seed=3)
    assert made == {"ok": True, "bytes": 2 * nbytes}
    first, second = compare(session, "nothing", seed=4)
    assert low <= first["largest"] <= high and first["snr_db"] is None
    if fill["kind"] in ("normal", "bfloat16"):
        assert first["largest"] != second["largest"]  # two items of one seed differ


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


def test_more_than_the_memory_is_refused(session: Caller) -> None:
    item = {"shape": [1 << 38], "dtype": "float32", "fill": NORMAL}
    answer = session.ask("arguments", id="x", items=[item], copies=1, seed=0)
    refused(answer, "device", "1099512 MB")


def test_a_wrong_hash_stores_nothing(server: Server, session: Caller) -> None:
    data = server.candidates()
    wrong = hashlib.sha256(data + b"x").hexdigest()
    refused(session.ask("put", name="c", sha256=wrong, payload=data), "mismatch", "sha256 is")
    refused(session.ask("load", name="c"), "input", "put it first")


@pytest.mark.parametrize("name", ["", "../c", "C", ".c", "a/b", "a" * 82, "a\0b"])
def test_names_are_plain(session: Caller, name: str) -> None:
    refused(session.put(name, b"x"), "input", "name")


def test_what_is_no_library_is_not_loaded(server: Server, session: Caller) -> None:
    data = server.candidates()
    other = "aarch64" if server.machine == "x86_64" else "x86_64"
    quiet = ENTRY.format(name="copy", body="{ return 0; }")
    bad = {
        "too short": b"\x7fELF",
        "not a 64-bit": b"x" * 5000,
        "cut off": data[:300],
        "another architecture": library(other, quiet, server.folder.parent),
        "it needs 'mystery'": library(server.machine, LACKING, server.folder.parent),
    }
    for words, content in bad.items():
        assert session.put("bad", content)["ok"]
        refused(session.ask("load", name="bad"), "mismatch", words)


def test_damaged_libraries_are_answered(server: Server) -> None:
    """A library with corrupt ELF headers loads or is refused; the session goes on either way."""
    data = bytearray(server.candidates())
    for place in (*range(32, 64, 4), *range(64, 64 + 56 * 4, 12)):
        damaged = bytes(data[:place]) + b"\xff\xff\xff\x7f" + bytes(data[place + 4 :])
        with server.open() as caller:
            assert caller.put("bad", damaged)["ok"]
            answer = caller.ask("load", name="bad")
            assert answer["ok"] or answer["kind"] in ("mismatch", "device"), answer


@pytest.mark.parametrize(
    ("function", "reason"),
    [("segfault", "SIGSEGV"), ("illegal", "SIGILL"), ("forever", "time limit")],
)
def test_a_deadly_candidate_ends_its_session_only(
    server: Server, loaded: Caller, function: str, reason: str
) -> None:
    started = time.monotonic()
    with pytest.raises(EOFError):
        measure(loaded, function, deadline_s=1)
    assert time.monotonic() - started < 50
    assert server.previous() == reason
    assert server.previous() is None
    assert server.process.poll() is None


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


def test_the_product_s_client(server: Server) -> None:
    client = pytest.importorskip("handglass.runtime.remote.client")
    with client.DeviceClient("127.0.0.1", server.port, KEY) as device:
        assert device.describe().runtime == "native"
        device.put("c", server.candidates())
        device.load("c")
        device.arguments("x", PAIR)
        assert min(device.measure("c", "copy", "x", number=5, samples=2)) > 0


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
