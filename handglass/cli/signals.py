"""Turns SIGINT and SIGTERM into exceptions, so that partial output is cleaned up.

The exception is raised wherever Python happens to be, and it can get lost in three places: C++ that
calls back into Python converts it to a RuntimeError or drops it; an exception in a destructor or in
a callback without a result is printed and ignored. A timer therefore raises it again until it is
handled: each tick raises it unless an exception is already propagating.

The handler's call can get lost too. CPython's handler in C writes the number of every signal to a
pipe, which the handler in Python empties; a thread calls it again for a number that stays there.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

TICK_S = 0.1
_ENDING = (signal.SIGTERM, signal.SIGINT)
_CONVERSION = str(Path("tvm_ffi") / "error.py")
_received: list[int] = []  # signals that are not handled yet
_pipe: list[int] = []  # where CPython writes the numbers of signals: reading end, writing end


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
    _received.append(number)
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    _take_numbers()
    if not _is_converting(frame):
        _raise()


def _watch() -> None:
    """Start the thread that notices lost calls of `_end`; a forked child has no such thread."""
    _pipe[:] = os.pipe()
    for end in _pipe:
        os.set_blocking(end, False)
    signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_notice_lost, daemon=True).start()


def _notice_lost() -> None:
    """Trip signals again whose numbers `_end` leaves in the pipe, which it empties when it runs.

    Nothing happens if the main thread is only busy in C++: the signal is pending already.
    """
    while True:
        select.select([_pipe[0]], [], [])
        time.sleep(TICK_S)
        for number in {*_take_numbers()} & {*_ENDING}:
            _thread.interrupt_main(number)


def _take_numbers() -> bytes:
    """The signals whose numbers are in the pipe, which is empty afterwards."""
    try:
        return os.read(_pipe[0], 4096)
    except BlockingIOError:
        return b""


def _tick(number: int, frame: FrameType | None) -> None:
    """Raise unless an exception is being handled, which includes `finally` and `__exit__`."""
    if _received and sys.exc_info()[1] is None and not _is_converting(frame):
        _raise()


def _is_converting(frame: FrameType | None) -> bool:
    """Whether TVM is making a C++ error of an exception: another one would crash it."""
    while frame is not None:
        if frame.f_code.co_filename.endswith(_CONVERSION):
            return True
        frame = frame.f_back
    return False


def _raise() -> None:
    raise KeyboardInterrupt if _received[0] == signal.SIGINT else SystemExit(128 + _received[0])


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Ignore our own exceptions, which are raised again; report all others as usual."""
    if not (_received and issubclass(lost.exc_type, (KeyboardInterrupt, SystemExit))):
        sys.__unraisablehook__(lost)
