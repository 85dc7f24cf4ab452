"""The loop of a session process: answers requests until the client disconnects.

A request that exceeds its deadline kills the process with SIGALRM, which also interrupts compiled
code.
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
"""Time that a session waits for the next request."""
ENDED, IDLE, GARBAGE = 0, 64, 65
"""Exit codes of a session process."""
_MAX_ERROR = 2000  # characters


def answer_requests(connection: socket.socket, folder: Path, settings: Settings) -> int:
    """Serve one client and store its files in `folder`; returns an exit code."""
    session = Session(folder, settings)
    connection.settimeout(IDLE_SECONDS)
    try:
        while True:
            frames.send(connection, answer(session, frames.receive(connection)))
    except TimeoutError:
        return IDLE
    except frames.FrameError:
        return GARBAGE
    except (EOFError, OSError):  # the client disconnected, or the connection failed
        return ENDED


def answer(session: Session, message: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request; a HandglassError becomes an answer with `ok` false."""
    try:
        fields = Fields(message, "request")
        request = REQUESTS[fields.choice("do", tuple(REQUESTS))]
        with _deadline(fields.number("deadline_s", 0.001, MAX_DEADLINE)):
            return {"ok": True, **request(session, fields)}
    except HandglassError as error:
        return _refusal(error)
    except MemoryError:
        return _refusal(DeviceError("out of memory; request fewer copies"))


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _refusal(error: HandglassError) -> dict[str, Any]:
    kinds = {DeviceError: "device", MismatchError: "mismatch"}
    return {"ok": False, "kind": kinds.get(type(error), "input"), "error": str(error)[:_MAX_ERROR]}
