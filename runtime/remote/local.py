"""A device server on this machine for the duration of a `with` block."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import handglass
from handglass.errors import DeviceError

from .keys import VARIABLE

_PATIENCE = 10.0


class Endpoint(NamedTuple):
    """The arguments of a `DeviceClient`."""

    host: str
    port: int
    key: str


@contextlib.contextmanager
def local_device(threads: int | None = None, runtime: Path | None = None) -> Iterator[Endpoint]:
    """Start a server as a child process and stop it at the end of the block.

    The server also exits when this process ends for any reason, because its standard input is a
    pipe from this process. The key is passed in the environment, which other users cannot read.
    Raises DeviceError if the server does not start.
    """
    key = secrets.token_hex(16)
    with _server(key, threads, runtime) as server:
        try:
            host, port = _address(server)
            yield Endpoint(host, port, key)
        finally:
            _end(server)


def _server(key: str, threads: int | None, runtime: Path | None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "handglass.runtime.remote", "--port", "0"]
    command += ["--until-eof", "--json"]
    command += [] if threads is None else ["--threads", str(threads)]
    command += [] if runtime is None else ["--runtime", str(runtime)]
    root = str(Path(handglass.__file__).absolute().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, VARIABLE: key, "PYTHONPATH": path},
    )


def _address(server: subprocess.Popen[str]) -> tuple[str, int]:
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        raise DeviceError(
            f"the device server did not start (exit code {server.wait(_PATIENCE)}); "
            "see its message above"
        )
    started = json.loads(line)
    return str(started["host"]), int(started["port"])


def _end(server: subprocess.Popen[str]) -> None:
    server.terminate()
    try:
        server.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
