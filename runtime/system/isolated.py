"""A piece of Python in a process of its own, for what may end with a signal.

Started anew where that is possible. Under an emulator without help from the kernel (qemu-user
without binfmt) a program cannot be started from a program: there the process is forked.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass

TIMEOUT_S = 300.0
TIMED_OUT = 124


@dataclass(frozen=True)
class IsolatedRun:
    """`code` below zero is minus a signal's number; `err` is standard error, or why none came."""

    code: int
    err: str

    @property
    def words(self) -> str:
        """How it ended, for people."""
        if self.code >= 0:
            return f"exit {self.code}"
        known = {int(number): number.name for number in signal.Signals}
        return known.get(-self.code, f"signal {-self.code}")


def run_isolated(source: str, *arguments: str, limit_s: float = TIMEOUT_S) -> IsolatedRun:
    """Run `source` with these in sys.argv[1:]; what it prints to standard output is dropped."""
    command = [sys.executable, "-c", source, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return IsolatedRun(TIMED_OUT, f"no end after {limit_s:.0f} s")
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return _forked(source, arguments, limit_s)
    return IsolatedRun(done.returncode, done.stderr.decode("utf-8", errors="replace"))


def _forked(source: str, arguments: tuple[str, ...], limit_s: float) -> IsolatedRun:
    with tempfile.TemporaryFile() as told:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _be_the_child(source, arguments, told.fileno(), limit_s)
        _, status = os.waitpid(pid, 0)
        told.seek(0)
        return IsolatedRun(os.waitstatus_to_exitcode(status), told.read().decode(errors="replace"))


def _be_the_child(source: str, arguments: tuple[str, ...], told: int, limit_s: float) -> None:
    """Never returns; the parent's clean-ups are not this process's to run."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(told, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
        faulthandler.disable()  # a crash is told in a word
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        sys.argv = ["-c", *arguments]
        exec(compile(source, "<apart>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001  the end of this process, whatever it was
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
