"""Ending on SIGINT and SIGTERM by an exception, so that what is half-written is removed.

The exception comes wherever Python happens to be, and three places swallow it. C++ that calls back
into Python turns it into a RuntimeError, or drops it; a destructor or a callback that returns
nothing lets Python print it and go on. So it is raised again and again until somebody handles it:
a clock ticks, and a tick that finds no exception on its way raises one.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

TICK_S = 0.1
_received: list[int] = []  # those that asked this process to end and were not answered yet


def end_by_exception() -> None:
    """From now on SIGINT raises KeyboardInterrupt and SIGTERM SystemExit, and none is lost."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    signal.signal(signal.SIGALRM, _tick)
    sys.unraisablehook = _unraisable


def ended_by() -> int | None:
    """The first signal that asked this process to end. Call it where the exception is handled:
    nothing is raised again after that."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    number = _received[0] if _received else None
    _received.clear()
    return number


def _end(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    _raise()


def _tick(number: int, frame: FrameType | None) -> None:
    """While an exception is being handled, `finally` and `__exit__` included, clean-ups run."""
    if _received and sys.exc_info()[1] is None:
        _raise()


def _raise() -> None:
    raise KeyboardInterrupt if _received[0] == signal.SIGINT else SystemExit(128 + _received[0])


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    """An exception of ours comes again; all others are told as ever."""
    if not (_received and issubclass(lost.exc_type, (KeyboardInterrupt, SystemExit))):
        sys.__unraisablehook__(lost)
