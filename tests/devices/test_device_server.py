"""The device server: admission of clients, shutdown, and robustness."""

import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from device_library import library

from handglass.runtime.remote import frames, handshake
from handglass.runtime.remote.client import DeviceClient, SessionDied
from handglass.runtime.remote.handshake import DeviceBusy, proof
from handglass.runtime.remote.local import Endpoint, local_device

KEY = "0123456789abcdef"


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether the process is alive; a zombie is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def children_of(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Server:
    """A separate server that a test may kill."""

    def __init__(self, folder: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "handglass.cli.main", "device", "serve", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--json", "--threads", "1", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "HANDGLASS_DEVICE_KEY": KEY, "TMPDIR": str(folder)},
        )
        assert self.process.stdout is not None
        greeting = json.loads(self.process.stdout.readline())
        assert greeting["key"] is None and greeting["pid"] == self.process.pid
        self.endpoint = Endpoint(greeting["host"], greeting["port"], KEY)

    def stuck_session(self, client: DeviceClient) -> int:
        """The process of a session that is running an endless loop."""
        client.put("lib", library())
        client.load("lib")
        client.arguments("x", [1])
        assert client._connection is not None
        request = {"do": "measure", "library": "lib", "function": "loop", "arguments": "x"}
        frames.send(client._connection, {**request, "number": 1, "samples": 1, "deadline_s": 600})
        (session,) = children_of(self.process.pid)
        return session


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Server]:
    server = Server(folder, *flags)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


def test_one_client_at_a_time(device: Endpoint) -> None:
    with DeviceClient(*device) as first:
        with pytest.raises(DeviceBusy, match="busy"):
            DeviceClient(*device)
        assert first.describe().runtime == "python"
    for _ in range(5):  # at once, while the previous session is still ending
        DeviceClient(*device).close()


def test_who_says_nothing_keeps_nobody_waiting(device: Endpoint) -> None:
    silent = [socket.create_connection((device.host, device.port)) for _ in range(40)]
    with DeviceClient(*device) as client:
        assert client.describe().threads == 1
    for connection in silent:
        connection.close()


IMPATIENT = """
from handglass.runtime.remote import handshake
assert handshake.SECONDS == 10
handshake.SECONDS = 0.3
from handglass.runtime.remote.__main__ import main
main()
"""


def test_who_says_nothing_is_forgotten() -> None:
    command = [sys.executable, "-c", IMPATIENT, "--port", "0", "--json", "--until-eof"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as server:  # type: ignore[call-overload]
        address = ("127.0.0.1", json.loads(server.stdout.readline())["port"])
        with closing(socket.create_connection(address, 20)) as silent:
            frames.receive(silent)
            silent.send(b"\0")
            with pytest.raises(EOFError):
                frames.receive(silent)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_its_session(
    server: Server, tmp_path: Path, number: signal.Signals
) -> None:
    with DeviceClient(*server.endpoint) as client:
        session = server.stuck_session(client)
        assert len(list(tmp_path.iterdir())) == 1
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
        assert not is_running(session)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(SessionDied, match="device gone"):
            client.describe()


def test_a_server_that_is_killed_takes_its_session_with_it(server: Server) -> None:
    with DeviceClient(*server.endpoint) as client:
        session = server.stuck_session(client)
        server.process.kill()
        wait_until(lambda: not is_running(session))


def test_the_dead_are_not_left_as_zombies(server: Server) -> None:
    for _ in range(3):
        with DeviceClient(*server.endpoint) as client:
            os.kill(server.stuck_session(client), signal.SIGSEGV)
            with pytest.raises(SessionDied) as died:
                client.describe()
        assert died.value.reason == "SIGSEGV"
        wait_until(lambda: children_of(server.process.pid) == [])


def test_it_ends_with_its_standard_input(tmp_path: Path) -> None:
    with serving(tmp_path, "--until-eof") as server:
        server.process.communicate(b"some words", timeout=20)
        assert server.process.returncode == 0


PARENT = """
import time
from handglass.runtime.remote.client import DeviceClient
from handglass.runtime.remote.local import local_device
with local_device(threads=1) as device:
    client = DeviceClient(*device)
    print(device.port, flush=True)
    time.sleep(60)
"""


def test_a_local_device_ends_with_a_parent_that_is_killed() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        (server,) = children_of(parent.pid)
        parent.kill()
    wait_until(lambda: not is_running(server))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_the_key_of_a_local_device_is_not_on_its_command_line() -> None:
    before = children_of(os.getpid())
    with local_device(threads=1) as device:
        (server,) = set(children_of(os.getpid())) - set(before)
        assert device.key.encode() not in Path(f"/proc/{server}/cmdline").read_bytes()


def test_a_local_device_that_cannot_start_says_so() -> None:
    from handglass.errors import DeviceError

    with (
        pytest.raises(DeviceError, match="exit code 3"),
        local_device(runtime=Path("/no/such/file")),
    ):
        pass


def garbage(rng: random.Random) -> bytes:
    """A malformed frame, or random bytes."""
    values: list[Any] = [None, True, -1, 1 << 70, 1e300, "", "x", "describe", [], {}, [{}], 0.5]
    names = ["do", "deadline_s", "name", "sha256", "payload", "id", "items", "copies", "seed"]
    names += ["library", "function", "arguments", "number"]
    message = {name: rng.choice(values) for name in rng.sample(names, rng.randrange(len(names)))}
    if rng.random() < 0.7:
        message |= {"do": rng.choice(list("xy") + _REQUESTS), "deadline_s": 5}
        message.pop("payload", None)
    text = json.dumps(message).encode()
    kind = rng.randrange(5)
    if kind == 0:
        text = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 99)))
    if kind == 1:
        text = text[: rng.randrange(len(text))]
    length = rng.choice([0, 1 << 31, len(text) + 7]) if kind == 2 else len(text)
    return struct.pack(">I", length) + text


_REQUESTS = ["describe", "put", "load", "arguments", "measure", "compare", "drop"]


def proved(device: Endpoint) -> socket.socket:
    connection = socket.create_connection((device.host, device.port), 20)
    handshake.greet(connection, device.key, "test")
    return connection


def test_random_frames_never_end_the_server(device: Endpoint) -> None:
    """100 frames before authentication, and 100 inside sessions."""
    rng = random.Random(7)
    for _ in range(100):
        with socket.create_connection((device.host, device.port), 20) as stranger:
            stranger.sendall(garbage(rng))
    connection = proved(device)
    for _ in range(100):
        try:
            connection.sendall(garbage(rng))
            connection.settimeout(0.05)
            assert frames.receive(connection)["ok"] in (True, False)
        except (EOFError, TimeoutError, ConnectionError):
            connection.close()
            connection = proved(device)
    connection.close()
    with DeviceClient(*device) as client:
        assert client.describe().threads == 1


def test_how_a_session_ended_is_told_until_the_next_has(device: Endpoint) -> None:
    connection = proved(device)
    connection.sendall(struct.pack(">I", 0))
    with pytest.raises(EOFError):
        frames.receive(connection)
    connection.close()
    for expected in ("the client sent a malformed frame", None):
        connection = socket.create_connection((device.host, device.port), 20)
        nonce, ours = frames.receive(connection)["nonce"], handshake.fresh_nonce()
        frames.send(connection, {"nonce": ours, "proof": proof(device.key, "client", nonce, ours)})
        assert frames.receive(connection)["previous"] == expected
        connection.close()
