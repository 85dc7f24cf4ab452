"""Ending on SIGINT and SIGTERM by an exception, so that what is half-written is removed.

The exception comes wherever Python happens to be, and two places swallow it. C++ that calls back
into Python turns it into a RuntimeError: `ended_by` remembers. Where nobody could catch it (in
`__del__`, in a weak reference's callback, in a callback from C that returns nothing) Python prints
it and goes on: there it is kept quiet and raised again a moment later.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

AGAIN_S = 0.02
_received: list[int] = []  # those that asked this process to end, in order of arrival


def end_by_exception() -> None:
    """From now on SIGINT raises KeyboardInterrupt and SIGTERM SystemExit, and none is lost."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    signal.signal(signal.SIGALRM, _end_again)
    sys.unraisablehook = _unraisable


def ended_by() -> int | None:
    """The first signal that asked this process to end."""
    return _received[0] if _received else None


def _end(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def _end_again(number: int, frame: FrameType | None) -> None:
    if _received:
        _end(_received[0], frame)


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    if _received and issubclass(lost.exc_type, (KeyboardInterrupt, SystemExit)):
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    else:
        sys.__unraisablehook__(lost)
