"""What the command that starts a server does: its key, its address, and the words about both.

Shared by `handglass device serve` and `python -m handglass.runtime.remote`, which needs no typer.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from handglass.errors import DeviceError, InputError, UsageError

from ..execution.tvm_runtime import import_tvm_ffi, installed_runtime
from ..system.machine import thread_count
from .devices import Plugins
from .keys import VARIABLE, find_key
from .server import DeviceServer
from .session import Settings

DEFAULT_PORT = 9190
_STDIN = 0


@dataclass(frozen=True)
class Options:
    """The flags of the command, by their names."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    key_file: Path | None = None
    threads: int | None = None
    runtime: Path | None = None
    expose: bool = False
    until_eof: bool = False
    plugins: Plugins = field(default_factory=dict)
    """Each from the flag that is called after its kind."""


@dataclass(frozen=True)
class Started:
    """A server that listens now; `key` only where it was made up for this run."""

    host: str
    port: int
    exposed: bool
    key: str | None

    def told(self, as_json: bool) -> str:
        """One line for a program, or words for a person."""
        return json.dumps({**vars(self), "pid": os.getpid()}) if as_json else self._text()

    def _text(self) -> str:
        """For the person who has started it: who can connect, and how."""
        lines = [f"handglass device server on {self.host}:{self.port}, process {os.getpid()}"]
        lines += _EXPOSED if self.exposed else [text.format(port=self.port) for text in _LOOPBACK]
        host = "THIS-MACHINE" if self.host == "0.0.0.0" else self.host
        key = self.key or f"(what this server got from --key-file or {VARIABLE})"
        lines += [
            "On the computer that tunes:",
            f"  export {VARIABLE}={key}",
            f"  handglass tune ... --rpc {host}:{self.port}",
        ]
        return "\n".join(lines)


_LOOPBACK = (
    "Only programs on this machine can connect, and only with the key. From another computer:",
    "  ssh -N -L {port}:127.0.0.1:{port} THIS-MACHINE      or, to a phone on a cable,",
    "  adb forward tcp:{port} tcp:{port}",
)
_EXPOSED = (
    "EXPOSED: every machine that reaches this address can connect. Whoever knows the key can run",
    "any code as your user here, and what is sent can be read on the way.",
)


def serve(options: Options, announce: Callable[[Started], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called once it listens.

    UsageError, InputError and DeviceError for options that cannot be followed.
    """
    given = find_key(options.key_file)
    key = given or secrets.token_hex(16)
    thread_count(options.threads)
    given_plugins = ((kind, _given(file, f"--{kind}")) for kind, file in options.plugins.items())
    plugins = {kind: file for kind, file in given_plugins if file is not None}
    settings = Settings(find_runtime(options.runtime), options.threads, plugins)
    import_tvm_ffi()  # once, and not by every session
    address = _resolve(options.host, options.port)
    exposed = not ipaddress.ip_address(address[0]).is_loopback
    if exposed and not options.expose:
        raise UsageError(_why_not(options.host))
    with _listen(address) as listener:
        host, port = listener.getsockname()[:2]
        announce(Started(host, port, exposed, None if given else key))
        DeviceServer(listener, key, settings, _STDIN if options.until_eof else None).run()


def find_runtime(given: Path | None) -> Path:
    """libtvm_runtime.so: the one given, or an installed apache-tvm's, located and not imported."""
    named = _given(given, "--runtime")
    if named is not None:
        return named
    installed = installed_runtime()
    if installed is None:
        raise DeviceError(
            "libtvm_runtime.so was not found: pip install apache-tvm==0.27.0.post1 --no-deps, "
            "or name the file (every bundle made with --runtime holds one) with --runtime"
        )
    return installed


def _given(file: Path | None, flag: str) -> Path | None:
    if file is not None and not file.is_file():
        raise InputError(f"{flag} {file}: there is no such file")
    return file.resolve() if file else None


def _resolve(host: str, port: int) -> tuple[str, int]:
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"--host {host}: not an address of this machine: {error}") from error
    address = found[0][4]
    return str(address[0]), int(address[1])


def _listen(address: tuple[str, int]) -> socket.socket:
    try:
        return socket.create_server(address, backlog=128)
    except OSError as error:
        where = f"{address[0]}:{address[1]}"
        raise DeviceError(
            f"{where}: cannot listen: {error.strerror}; try another --port"
        ) from error


def _why_not(host: str) -> str:
    return (
        f"--host {host} can be reached from other machines. Whoever knows the key can run any code "
        "as your user here, and the traffic is not encrypted. Keep the default address and come "
        "in by 'ssh -L' or 'adb forward' (docs/device-server.md), or add --expose if you mean it"
    )
