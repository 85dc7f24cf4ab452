"""Runs a piece of Python in a child process, for code that a signal may kill.

The child is a new interpreter. Under qemu-user without binfmt_misc a program cannot execute another
program, so there the process is forked instead.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass

from .scratch_file import scratch_file

TIMEOUT_S = 300.0
TIMED_OUT = 124


@dataclass(frozen=True)
class IsolatedRun:
    """How the child ended: a negative `code` is a signal number; `err` is standard error, or the
    reason why there is none."""

    code: int
    err: str

    @property
    def words(self) -> str:
        """How the child ended, as text: "exit 3", "SIGSEGV"."""
        if self.code >= 0:
            return f"exit {self.code}"
        names = {int(number): number.name for number in signal.Signals}
        return names.get(-self.code, f"signal {-self.code}")


def run_isolated(
    source: str, *arguments: str, limit_s: float = TIMEOUT_S, keep: tuple[int, ...] = ()
) -> IsolatedRun:
    """Run `source` with `arguments` in sys.argv[1:]; its standard output is discarded.

    The descriptors `keep` are open in the child under the same numbers.
    """
    command = [sys.executable, "-c", source, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s, pass_fds=keep)
    except subprocess.TimeoutExpired:
        return IsolatedRun(TIMED_OUT, f"still running after {limit_s:.0f} s")
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return _forked(source, arguments, limit_s)
    return IsolatedRun(done.returncode, done.stderr.decode("utf-8", errors="replace"))


def _forked(source: str, arguments: tuple[str, ...], limit_s: float) -> IsolatedRun:
    with scratch_file() as errors:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _run_child(source, arguments, errors.fileno(), limit_s)
        _, status = os.waitpid(pid, 0)
        errors.seek(0)
        text = errors.read().decode(errors="replace")
        return IsolatedRun(os.waitstatus_to_exitcode(status), text)


def _run_child(source: str, arguments: tuple[str, ...], errors: int, limit_s: float) -> None:
    """Never returns: the child must not run the parent's cleanup handlers."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(errors, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
        faulthandler.disable()  # the signal number is enough
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        sys.argv = ["-c", *arguments]
        exec(compile(source, "<isolated>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  the child exits below in any case
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
