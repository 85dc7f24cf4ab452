"""Turns SIGINT and SIGTERM into exceptions, so that partial output is cleaned up.

The exception is raised wherever Python happens to be, and it can get lost in three places: C++ that
calls back into Python converts it to a RuntimeError or drops it; an exception in a destructor or in
a callback without a result is printed and ignored. A timer therefore raises it again until it is
handled: each tick raises it unless an exception is already propagating.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

TICK_S = 0.1
_received: list[int] = []  # signals that are not handled yet


def end_by_exception() -> None:
    """Install the handlers: SIGINT raises KeyboardInterrupt and SIGTERM SystemExit."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    signal.signal(signal.SIGALRM, _tick)
    sys.unraisablehook = _unraisable


def ended_by() -> int | None:
    """Return the first pending signal, or None, and stop raising.

    Must be called wherever the exception is handled.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    number = _received[0] if _received else None
    _received.clear()
    return number


def _end(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    _raise()


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
