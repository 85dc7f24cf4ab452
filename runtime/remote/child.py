"""The process of a session: a fork of the server, so that what kills it leaves the server alone.

It is forked and never executed anew: under qemu without binfmt only the first program of a
machine's kind can be started at all.
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
    GARBAGE: "the client sent what is not a frame",
    _DEFECT: "a defect of the server; its output has the traceback",
}
# Crashes, too: tvm_ffi and Python's faulthandler would print for half a second before they die.
_DEADLY = tuple(
    getattr(signal, f"SIG{name}")
    for name in ("INT", "TERM", "CHLD", "ALRM", "SEGV", "BUS", "ILL", "FPE", "ABRT")
)
_PR_SET_PDEATHSIG = 1  # Linux, prctl.h


class Child:
    """The one session that there may be, and how the last one ended."""

    def __init__(self) -> None:
        self.previous: str | None = None
        self._pid: int | None = None
        self._folder: Path | None = None

    @property
    def alive(self) -> bool:
        """As far as `reap` knows."""
        return self._pid is not None

    def start(self, work: Callable[[Path], int]) -> None:
        """Fork; the child does `work` in a folder of its own and exits with what it returns."""
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
        """Collect the child if it has ended: True then, and `previous` tells how."""
        return self._wait(os.WNOHANG)

    def stop(self) -> None:
        """End the child, whatever it is doing, and remove its folder."""
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
    """A wait status in words; None for an orderly end."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGALRM:
            return "time limit"
        known = {int(name): name.name for name in signal.Signals}
        return known.get(number, f"signal {number}")
    code = os.WEXITSTATUS(status)
    return _EXITS.get(code, f"exit code {code}")


def _be_child(work: Callable[[Path], int], folder: Path, parent: int) -> None:
    """Never returns: what the server has on its stack is not the child's to clean up."""
    code = _DEFECT
    try:
        signal.set_wakeup_fd(-1)
        for number in _DEADLY:
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is nothing to write down
        _die_with(parent)
        code = work(folder)
    except BaseException:  # noqa: BLE001  the end of this process, whatever it was
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _die_with(parent: int) -> None:
    """A server that is killed takes its session with it (where there is prctl: Linux)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it was killed just before
            os._exit(ENDED)
