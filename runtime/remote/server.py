"""The device server: authenticates clients and serves one at a time, each in a forked process.

Handshakes run in one event loop without threads, so a silent caller does not block others. The
server process itself never loads TVM's runtime.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import frames, handshake
from .answering import answer_requests
from .child import Child
from .session import Settings

_MAX_CALLERS = 16
"""Maximum number of concurrent handshakes; a new caller replaces the oldest."""
_PATIENCE = 1.0
"""Seconds to wait for an ending session before the next caller gets "busy"."""
_ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass
class _Caller:
    """A connection without a session yet."""

    connection: socket.socket
    until: float  # on the monotonic clock
    server_nonce: str = field(default_factory=handshake.fresh_nonce)
    client_nonce: str = ""  # set once the caller is authenticated
    received: bytearray = field(default_factory=bytearray)


class DeviceServer:
    """Serves on the listening socket `listener` until a signal or end of file on `until_eof`."""

    def __init__(
        self, listener: socket.socket, key: str, settings: Settings, until_eof: int | None = None
    ) -> None:
        self._listener, self._key, self._settings = listener, key, settings
        self._until_eof = until_eof
        self._child = Child()
        self._callers: list[_Caller] = []  # oldest first
        self._selector = selectors.PollSelector()  # unlike epoll, no kernel state shared by forks
        self._ending = False

    def run(self, announce: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT; must run in the main thread, which receives signals.

        `announce` is called once either of them ends the server as it should.
        """
        with _waking() as wakeup:
            self._watch(wakeup)
            try:
                announce()
                while not self._ending:
                    self._turn()
            finally:
                self._close()

    def _watch(self, wakeup: socket.socket) -> None:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: self._heed(wakeup))
        if self._until_eof is not None:
            self._selector.register(self._until_eof, selectors.EVENT_READ, self._read_to_eof)

    def _turn(self) -> None:
        next_end = min((caller.until for caller in self._callers), default=None)
        wait = None if next_end is None else max(0.0, next_end - time.monotonic())
        for key, _ in self._selector.select(wait):
            key.data()
        self._child.reap()
        for caller in list(self._callers):
            if caller.client_nonce and not self._child.alive:
                self._begin(caller)
            elif time.monotonic() >= caller.until:
                self._give_up(caller)

    def _heed(self, wakeup: socket.socket) -> None:
        numbers = wakeup.recv(4096)
        self._ending = self._ending or any(number in numbers for number in _ENDING)

    def _read_to_eof(self) -> None:
        if self._until_eof is not None and not os.read(self._until_eof, 4096):
            self._ending = True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the caller has disconnected, or descriptors ran out
            return
        connection.setblocking(False)
        if len(self._callers) >= _MAX_CALLERS:
            self._forget(self._callers[0])
        caller = _Caller(connection, time.monotonic() + handshake.SECONDS)
        self._callers.append(caller)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(caller))
        self._say(caller, handshake.hello(caller.server_nonce))

    def _hear(self, caller: _Caller) -> None:
        """Read the caller's proof; drop callers that send more data before they are accepted."""
        if caller not in self._callers:  # dropped in this turn
            return
        try:
            data = caller.connection.recv(handshake.LIMIT)
            caller.received += data
            message = frames.take(caller.received, handshake.LIMIT)
        except (OSError, frames.FrameError):
            data, message = b"", None
        if not data or caller.client_nonce or (message and caller.received):
            self._forget(caller)
        elif message is not None:
            self._judge(caller, message)

    def _judge(self, caller: _Caller, message: dict[str, object]) -> None:
        nonce = message.get("nonce")
        if not handshake.is_nonce(nonce):
            self._forget(caller)
            return
        expected = handshake.proof(self._key, "client", caller.server_nonce, nonce)
        if handshake.is_proof(message.get("proof"), expected):
            caller.client_nonce, caller.until = nonce, time.monotonic() + _PATIENCE
        else:
            self._refuse(caller, "wrong key")

    def _give_up(self, caller: _Caller) -> None:
        if caller.client_nonce:
            self._refuse(caller, "busy: the device serves another client; try again later")
        else:
            self._forget(caller)

    def _refuse(self, caller: _Caller, error: str) -> None:
        self._say(caller, {"ok": False, "error": error})
        self._forget(caller)

    def _say(self, caller: _Caller, message: dict[str, object]) -> None:
        with contextlib.suppress(OSError):  # a caller that does not read times out
            caller.connection.send(frames.encode(message))

    def _forget(self, caller: _Caller) -> None:
        if caller in self._callers:
            self._callers.remove(caller)
            self._selector.unregister(caller.connection)
        caller.connection.close()

    def _begin(self, caller: _Caller) -> None:
        try:
            self._child.start(lambda folder: self._be_session(caller, folder))
        except OSError as error:
            self._refuse(caller, f"cannot start a session: {error.strerror}")
        self._forget(caller)

    def _be_session(self, caller: _Caller, folder: Path) -> int:
        """Runs in the child: close the server's sockets, then answer requests."""
        self._listener.close()
        for other in self._callers:
            if other is not caller:
                other.connection.close()
        connection = caller.connection
        connection.setblocking(True)
        _notice_loss(connection)
        nonces = caller.server_nonce, caller.client_nonce
        frames.send(connection, handshake.welcome(self._key, *nonces, self._child.previous))
        return answer_requests(connection, folder, self._settings)

    def _close(self) -> None:
        self._listener.close()
        for caller in list(self._callers):
            self._forget(caller)
        self._child.stop()
        self._selector.close()


def _notice_loss(connection: socket.socket) -> None:
    """Detect a lost client within two minutes: it would keep the device busy."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@contextlib.contextmanager
def _waking() -> Iterator[socket.socket]:
    """Yield a socket that receives signal numbers as bytes; the signal handlers do nothing."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    numbers = (signal.SIGCHLD, *_ENDING)
    handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()
