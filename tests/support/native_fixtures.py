"""Fixtures of the tests of the native program, which name this module in `pytest_plugins`.

It must not be imported otherwise: pytest rewrites the assertions of plugins when it imports them.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from device_caller import Caller
from native_bundles import QUESTIONS, TARGETS, compile_demo
from native_program import NativeProgram
from native_server import KEY, PAIR, Server
from shared import made_once

from handglass.runtime.answer.native_request import RequestWriter, Written


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The demo model in float32 for a target, compiled on first use."""

    def bundle(target: str) -> Path:
        def make(folder: Path) -> None:
            compile_demo(target, folder / "bundle")

        return made_once(tmp_path_factory, f"native-{target}", make) / "bundle"

    return bundle


@pytest.fixture(scope="module")
def bundle(program: NativeProgram, bundles: Callable[[str], Path]) -> Path:
    return bundles(TARGETS[program.machine])


@pytest.fixture(scope="module")
def writer(bundle: Path) -> RequestWriter:
    return RequestWriter(bundle)


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that the test may damage."""
    return Path(shutil.copytree(bundle, tmp_path / "copied"))


@pytest.fixture
def question(writer: RequestWriter, tmp_path: Path) -> Written:
    return writer.write(tmp_path / "question", *QUESTIONS["picture"])


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
