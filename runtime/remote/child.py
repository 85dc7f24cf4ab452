"""The process of a session: a fork of the server, so that a crash does not affect the server.

It is forked, not executed: under qemu-user without binfmt_misc, a foreign program cannot execute
another one.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from .answering import ENDED, GARBAGE, IDLE, IDLE_SECONDS

_DEFECT = 70
_EXITS = {
    ENDED: None,
    IDLE: f"idle for {IDLE_SECONDS:.0f} s",
    GARBAGE: "the client sent a malformed frame",
    _DEFECT: "a bug in the server; its output has the traceback",
}
# Including crashes: handlers of tvm_ffi and faulthandler would print for half a second first.
_DEADLY = tuple(
    getattr(signal, f"SIG{name}")
    for name in ("INT", "TERM", "CHLD", "ALRM", "SEGV", "BUS", "ILL", "FPE", "ABRT")
)
_PR_SET_PDEATHSIG = 1  # Linux, prctl.h


class Child:
    """The current session process, at most one, and how the previous one ended."""

    def __init__(self) -> None:
        self.previous: str | None = None
        self._pid: int | None = None
        self._folder: Path | None = None

    @property
    def alive(self) -> bool:
        """Whether a session runs, as of the last `reap`."""
        return self._pid is not None

    def start(self, work: Callable[[Path], int]) -> None:
        """Fork a child that runs `work` with a temporary folder and exits with its result."""
        self._folder = Path(tempfile.mkdtemp(prefix="handglass-device-"))  # 0700
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            self._remove_folder()
            raise
        if pid == 0:
            _be_child(work, self._folder, parent)
        self._pid = pid

    def reap(self) -> bool:
        """Reap the child if it has ended and set `previous`; returns whether it had."""
        return self._wait(os.WNOHANG)

    def stop(self) -> None:
        """Kill the child and remove its folder."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            self._wait(0)

    def _wait(self, options: int) -> bool:
        if self._pid is None:
            return False
        pid, status = os.waitpid(self._pid, options)
        if pid == 0:
            return False
        self._pid = None
        self.previous = death(status)
        self._remove_folder()
        return True

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None


def death(status: int) -> str | None:
    """A description of a wait status; None for a normal exit."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGALRM:
            return "time limit"
        names = {int(entry): entry.name for entry in signal.Signals}
        return names.get(number, f"signal {number}")
    code = os.WEXITSTATUS(status)
    return _EXITS.get(code, f"exit code {code}")


def _be_child(work: Callable[[Path], int], folder: Path, parent: int) -> None:
    """Never returns: the child must not run the server's cleanup handlers."""
    code = _DEFECT
    try:
        signal.set_wakeup_fd(-1)
        for number in _DEADLY:
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no core dumps
        _die_with(parent)
        code = work(folder)
    except BaseException:  # noqa: BLE001  the child exits below in any case
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _die_with(parent: int) -> None:
    """Kill this process when the server dies (Linux only: prctl)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the server died before the call
            os._exit(ENDED)
