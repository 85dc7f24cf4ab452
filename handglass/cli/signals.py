"""Turns SIGINT and SIGTERM into exceptions, so that partial output is cleaned up.

The exception is raised wherever Python happens to be, and it can get lost in three places: C++ that
calls back into Python converts it to a RuntimeError or drops it; an exception in a destructor or in
a callback without a result is printed and ignored. A timer therefore raises it again until it is
handled: each tick raises it unless an exception is already propagating.

The handler's call can get lost too, or come late: CPython's `input` looks at signals only while it
waits for a key, so that one between two keys counts after the next line. CPython's handler in C
writes the number of every signal to a pipe, which the handler in Python empties; a thread sends a
signal again whose number stays there.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
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
    if _pipe and number not in _take_numbers():
        return  # the watching thread has taken it and sends it again: one signal would count twice
    _received.append(number)
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    if not _is_converting(frame):
        _raise()


def _watch() -> None:
    """Start the thread that notices lost calls of `_end`.

    It stops before a fork: under qemu, a child of several threads cannot start one; Python warns.
    """
    _pipe[:] = _non_blocking_pipe()
    signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)
    watch = _Watch()
    os.register_at_fork(before=watch.stop, after_in_parent=watch.start, after_in_child=_leave_pipe)
    watch.start()


def _leave_pipe() -> None:
    """The pipe is the parent's, and nobody watches in a child."""
    signal.set_wakeup_fd(-1)
    _pipe.clear()


def _non_blocking_pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


class _Watch:
    """Sends signals again whose numbers `_end` leaves in the pipe, which it empties when it runs.

    Nothing happens if the main thread is only busy in C++: the signal is pending already. It must
    be a real signal, which also ends a wait in C.
    """

    def __init__(self) -> None:
        self._stop = _non_blocking_pipe()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._notice_lost, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Wait until the thread has ended, which takes a tick if a signal has just arrived."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            os.write(self._stop[1], b"\0")
            thread.join()
            _wait_for_kernel(thread)

    def _notice_lost(self) -> None:
        main = threading.main_thread().ident
        assert main is not None  # it has been started
        while self._stop[0] not in select.select([_pipe[0], self._stop[0]], [], [])[0]:
            time.sleep(TICK_S)
            for number in {*_take_numbers()} & {*_ENDING}:
                signal.pthread_kill(main, number)
        with suppress(BlockingIOError):  # `join` was interrupted, and the next thread read it
            os.read(self._stop[0], 1)


def _wait_for_kernel(thread: threading.Thread) -> None:
    """The kernel (and qemu) may hold a joined thread for a moment."""
    task, deadline = Path(f"/proc/self/task/{thread.native_id}"), time.monotonic() + TICK_S
    while task.exists() and time.monotonic() < deadline:
        time.sleep(0.001)


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
