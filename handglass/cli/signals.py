"""Turns SIGINT and SIGTERM into exceptions, so that partial output is cleaned up.

The exception is raised wherever Python happens to be, and it can get lost in three places: C++ that
calls back into Python converts it to a RuntimeError or drops it; an exception in a destructor or in
a callback without a result is printed and ignored. A timer therefore raises it again until it is
handled: each tick raises it unless an exception is already propagating.

The handler's call can get lost too. CPython's handler in C writes the number of every signal to a
pipe; a thread reads it and starts the timer for a signal whose handler in Python has not run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

TICK_S = 0.1
_ENDING = (signal.SIGTERM, signal.SIGINT)
_received: list[int] = []  # signals that are not handled yet
_last_run = [0.0]  # when the handler last ran to its end


def end_by_exception() -> None:
    """Install the handlers: SIGINT raises KeyboardInterrupt and SIGTERM SystemExit."""
    for number in _ENDING:
        signal.signal(number, _end)
    signal.signal(signal.SIGALRM, _tick)
    sys.unraisablehook = _unraisable
    _watch()


def ended_by() -> int | None:
    """Return the first pending signal, or None, and stop raising.

    Must be called wherever the exception is handled.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    number = _received[0] if _received else None
    _received.clear()
    return number


def _end(number: int, frame: FrameType | None) -> None:
    _keep_raising(number)
    _last_run[0] = time.monotonic()
    _raise()


def _keep_raising(number: int) -> None:
    _received.append(number)
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)


def _watch() -> None:
    """Start the thread that notices lost calls of `_end`; a forked child has no such thread."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_notice_lost, args=(reader,), daemon=True).start()


def _notice_lost(reader: int) -> None:
    while number := os.read(reader, 1):
        if number[0] not in _ENDING:
            continue
        arrived = time.monotonic()
        time.sleep(TICK_S)
        if _last_run[0] < arrived - TICK_S:
            _keep_raising(number[0])


def _tick(number: int, frame: FrameType | None) -> None:
    """Raise unless an exception is being handled, which includes `finally` and `__exit__`."""
    if _received and sys.exc_info()[1] is None:
        _raise()


def _raise() -> None:
    raise KeyboardInterrupt if _received[0] == signal.SIGINT else SystemExit(128 + _received[0])


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Ignore our own exceptions, which are raised again; report all others as usual."""
    if not (_received and issubclass(lost.exc_type, (KeyboardInterrupt, SystemExit))):
        sys.__unraisablehook__(lost)
