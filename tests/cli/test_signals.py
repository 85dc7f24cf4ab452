"""Signals end a command once, even if the exception or the handler's call gets lost."""

import signal
import subprocess
import sys

import pytest

HANDLED_ONCE = """
from handglass.cli.signals import end_by_exception, ended_by
end_by_exception()
try:
    os.kill(os.getpid(), number)
    time.sleep(60)
except (KeyboardInterrupt, SystemExit):
    print(ended_by() == number)
time.sleep(0.5)
print("quiet")
"""

LOST_ONCE = """
from handglass.cli import signals
calls, real = [], signals._end
def lost_once(number, frame):
    calls.append(number)
    if len(calls) > 1:
        real(number, frame)
signals._end = lost_once
signals.end_by_exception()
"""
RAISED_LATER = """
try:
    os.kill(os.getpid(), number)
    for _ in range(600):
        time.sleep(0.1)
except (KeyboardInterrupt, SystemExit):
    print(signals.ended_by() == number)
time.sleep(0.5)
print("quiet")
"""

HANDLER_LOST = LOST_ONCE + RAISED_LATER

FORKS = """
for _ in range(2):
    os.fork() or os._exit(0)
    os.wait()
"""
COUNT_THREADS = """
import threading
os.register_at_fork(before=lambda: print(threading.active_count(), flush=True))
"""

EXCEPTION_LOST = """
from handglass.cli.signals import end_by_exception, ended_by
class Lossy:
    def __del__(self):
        os.kill(os.getpid(), number)
end_by_exception()
try:
    Lossy()
    time.sleep(60)
except (KeyboardInterrupt, SystemExit):
    print(ended_by() == number)
time.sleep(0.5)
print("quiet")
"""


def outcome(program: str) -> tuple[str, str]:
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return ended.stdout, ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", [HANDLED_ONCE, HANDLER_LOST, EXCEPTION_LOST])
def test_signal_is_raised_once(program: str, number: signal.Signals) -> None:
    text = f"import os, time\nnumber = {int(number)}\n{program}"
    assert outcome(text) == ("True\nquiet\n", "")


def test_a_forked_child_does_not_signal_its_parent() -> None:
    text = """if True:
        import os, signal, time
        from handglass.cli.signals import end_by_exception
        end_by_exception()
        if not (child := os.fork()):
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
            finally:
                os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        time.sleep(0.5)
        print("quiet")
    """
    assert outcome(text) == ("7\nquiet\n", "")


def test_a_process_has_one_thread_when_it_forks_and_notices_lost_signals_afterwards() -> None:
    program = COUNT_THREADS + LOST_ONCE + FORKS + RAISED_LATER
    text = f"import os, time\nnumber = {int(signal.SIGTERM)}\n{program}"
    assert outcome(text) == ("1\n1\nTrue\nquiet\n", "")
