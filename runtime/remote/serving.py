"""Starts a device server: resolves its key and address and prints how to connect.

Shared by `handglass device serve` and `python -m handglass.runtime.remote`, which does not need
typer.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from handglass.errors import DeviceError, InputError, UsageError

from ..execution.instruction_counter import InstructionCounter
from ..execution.tvm_runtime import import_tvm_ffi, installed_runtime
from ..system.machine import thread_count
from ..system.regular_file import is_regular
from ..system.shared_library import SharedLibrary
from .keys import VARIABLE, find_key
from .server import DeviceServer
from .session import Settings

DEFAULT_PORT = 9190
_STDIN = 0


@dataclass(frozen=True)
class Options:
    """The command-line flags, by name."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    key_file: Path | None = None
    threads: int | None = None
    runtime: Path | None = None
    expose: bool = False
    until_eof: bool = False
    plugins: Mapping[str, Path] = field(default_factory=dict)
    """Plug-in libraries, from the flags named after the kinds."""
    counter: Path | None = None
    """The file that QEMU's plug-in shares."""


@dataclass(frozen=True)
class Started:
    """A listening server; `key` is set only if it was generated for this run."""

    host: str
    port: int
    exposed: bool
    key: str | None

    def announcement(self, as_json: bool) -> str:
        """The announcement: one line of JSON, or text for the user."""
        return json.dumps({**vars(self), "pid": os.getpid()}) if as_json else self._text()

    def _text(self) -> str:
        """Who can connect, and how."""
        lines = [f"handglass device server on {self.host}:{self.port}, process {os.getpid()}"]
        lines += _EXPOSED if self.exposed else [text.format(port=self.port) for text in _LOOPBACK]
        host = "THIS-MACHINE" if self.host == "0.0.0.0" else self.host
        key = self.key or f"(the key of this server, from --key-file or {VARIABLE})"
        lines += [
            "On the computer that tunes:",
            f"  export {VARIABLE}={key}",
            f"  handglass tune ... --rpc {host}:{self.port}",
        ]
        return "\n".join(lines)


_LOOPBACK = (
    "Only programs on this machine can connect, and only with the key. From another computer:",
    "  ssh -N -L {port}:127.0.0.1:{port} THIS-MACHINE      or, for a phone on a USB cable,",
    "  adb forward tcp:{port} tcp:{port}",
)
_EXPOSED = (
    "EXPOSED: every machine that reaches this address can connect. Anyone who knows the key can",
    "run any code as your user on this machine, and the traffic is not encrypted.",
)


def serve(options: Options, announce: Callable[[Started], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called once the server listens.

    Raises UsageError, InputError or DeviceError for invalid options.
    """
    shared_key = find_key(options.key_file)
    key = shared_key or secrets.token_hex(16)
    counter = None if options.counter is None else InstructionCounter(options.counter)
    threads = 1 if counter else options.threads
    if options.threads not in (None, threads):
        raise UsageError(f"--threads {options.threads}: --counter counts one thread only")
    thread_count(threads)
    files = ((kind, _existing(file, f"--{kind}")) for kind, file in options.plugins.items())
    plugins = {kind: SharedLibrary(file) for kind, file in files if file is not None}
    settings = Settings(find_runtime(options.runtime), threads, plugins, counter)
    import_tvm_ffi()  # before forking, instead of once per session
    address = _resolve(options.host, options.port)
    exposed = not ipaddress.ip_address(address[0]).is_loopback
    if exposed and not options.expose:
        raise UsageError(_exposure_warning(options.host))
    with _listen(address) as listener:
        host, port = listener.getsockname()[:2]
        started = Started(host, port, exposed, None if shared_key else key)
        server = DeviceServer(listener, key, settings, _STDIN if options.until_eof else None)
        server.run(lambda: announce(started))


def find_runtime(given: Path | None) -> SharedLibrary:
    """libtvm_runtime.so: `given`, or that of an installed apache-tvm, which is not imported.

    Raises InputError if `given` does not exist, DeviceError if there is no runtime.
    """
    file = _existing(given, "--runtime")
    if file is not None:
        return SharedLibrary(file)
    installed = installed_runtime()
    if installed is None:
        raise DeviceError(
            "libtvm_runtime.so was not found: pip install apache-tvm==0.27.0.post1 --no-deps, "
            "or pass the file with --runtime (every bundle compiled with --runtime has one)"
        )
    return SharedLibrary(installed)


def _existing(file: Path | None, flag: str) -> Path | None:
    if file is not None and not is_regular(file):
        raise InputError(f"{flag} {file}: no such file")
    return file.resolve() if file else None


def _resolve(host: str, port: int) -> tuple[str, int]:
    try:
        results = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"--host {host}: not an address of this machine: {error}") from error
    address = results[0][4]
    return str(address[0]), int(address[1])


def _listen(address: tuple[str, int]) -> socket.socket:
    try:
        return socket.create_server(address, backlog=128)
    except OSError as error:
        where = f"{address[0]}:{address[1]}"
        raise DeviceError(
            f"{where}: cannot listen: {error.strerror}; try another --port"
        ) from error


def _exposure_warning(host: str) -> str:
    return (
        f"--host {host} can be reached from other machines. Anyone who knows the key can run any "
        "code as your user on this machine, and the traffic is not encrypted. Keep the default "
        "address and connect with 'ssh -L' or 'adb forward' (docs/device-server.md), or add "
        "--expose to allow it"
    )
