"""A signal ends a command wherever Python happens to be, quietly and after cleanup."""

import signal
import subprocess
import sys

import pytest

# The signal arrives while `__del__` runs, whose exceptions Python prints and ignores.
LINGER = """
import os, sys, time
from handglass.cli import main

class Slow:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[2]))
        time.sleep(0.01)

def swallow(number):
    try:
        os.kill(os.getpid(), number)
        time.sleep(30)
    except BaseException:
        pass

def linger(number: int) -> None:
    try:
        Slow()
        time.sleep(30)
    finally:
        time.sleep(0.5)
        print("cleaned up")

main.app.command("linger")(main.guarded("linger", linger))
main.main()
"""
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def linger(source: str, number: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", source, "linger", str(int(number))]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


# like C++ code that calls Python and ignores the error
SWALLOWED = LINGER.replace("Slow()", "swallow(number)")


@pytest.mark.parametrize("source", [LINGER, SWALLOWED], ids=["destructor", "swallowed"])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_lost_signal_is_raised_again(source: str, number: signal.Signals) -> None:
    """But not during cleanup, which takes longer than one tick here."""
    ended = linger(source, number)
    assert ended.returncode == 128 + number, "the command was not interrupted"
    assert ended.stdout == "cleaned up\n"
    assert "Exception ignored" not in ended.stderr and "Traceback" not in ended.stderr


def test_other_exceptions_in_destructors_are_still_reported() -> None:
    faulty = LINGER.replace("os.kill(os.getpid(), int(sys.argv[2]))", "raise ValueError('mine')")
    ended = linger(faulty.replace("time.sleep(30)", "pass"), 0)
    assert ended.returncode == 0
    assert "Exception ignored" in ended.stderr and "mine" in ended.stderr


def test_a_handled_signal_is_not_raised_again() -> None:
    """As in `chat`, where it ends an answer but not the conversation."""
    answered = SWALLOWED.replace("pass", "main.ended_by(); time.sleep(0.5)")
    ended = linger(
        answered.replace("time.sleep(30)\n    finally", "pass\n    finally"), signal.SIGINT
    )
    assert (ended.returncode, ended.stdout) == (0, "cleaned up\n"), ended.stderr
