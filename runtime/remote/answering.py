"""The loop of a session's process: a request in, an answer out, until the client leaves.

A request that takes longer than its deadline ends the process by SIGALRM, which also reaches into
machine code.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from handglass.errors import DeviceError, HandglassError, MismatchError

from ..execution.fields import Fields
from . import frames
from .session import REQUESTS, Session, Settings

MAX_DEADLINE = 600.0
IDLE_SECONDS = 600.0
"""How long a session waits for a request."""
ENDED, IDLE, GARBAGE = 0, 64, 65
"""What the process of a session exits with."""
_MAX_WORDS = 2000


def answer_requests(connection: socket.socket, folder: Path, settings: Settings) -> int:
    """Serve one client; `folder` is for what it sends. Returns an exit code."""
    session = Session(folder, settings)
    connection.settimeout(IDLE_SECONDS)
    try:
        while True:
            frames.send(connection, answer(session, frames.receive(connection)))
    except TimeoutError:
        return IDLE
    except frames.FrameError:
        return GARBAGE
    except (EOFError, OSError):  # it left, or the way to it is gone
        return ENDED


def answer(session: Session, message: dict[str, Any]) -> dict[str, Any]:
    """What a request is answered with; errors of ours become words."""
    try:
        fields = Fields(message, "request")
        request = REQUESTS[fields.choice("do", tuple(REQUESTS))]
        with _deadline(fields.number("deadline_s", 0.001, MAX_DEADLINE)):
            return {"ok": True, **request(session, fields)}
    except HandglassError as error:
        return _refusal(error)
    except MemoryError:
        return _refusal(DeviceError("out of memory; ask for fewer copies"))


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _refusal(error: HandglassError) -> dict[str, Any]:
    kinds = {DeviceError: "device", MismatchError: "mismatch"}
    return {"ok": False, "kind": kinds.get(type(error), "input"), "error": str(error)[:_MAX_WORDS]}
