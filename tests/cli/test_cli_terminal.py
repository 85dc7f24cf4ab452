"""The prompt of `handglass chat` on a pseudo-terminal, and what Tab completes."""

import os
import pty
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from handglass.cli.terminal import completions

PROGRAM = """
import signal, sys, threading, time
from handglass.cli.signals import end_by_exception
from handglass.cli.terminal import TerminalLines, confirmed
end_by_exception()
for line in TerminalLines(("/image", "/exit")):
    print("read", repr(line))
    if line == "ask":
        print("confirmed", confirmed("Sure?"))
    if line == "elsewhere":  # as between two keys, `input` does not see that a signal has come
        me = lambda: (time.sleep(0.5), signal.pthread_kill(threading.get_ident(), signal.SIGINT))
        threading.Thread(target=me).start()
print("left")
"""


class Terminal:
    """A process whose terminal is written to and read from."""

    def __init__(self) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.execv(sys.executable, [sys.executable, "-c", PROGRAM])
        self.seen = ""

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Read until `text` appears, and forget what came before it."""
        assert self._sees(text, seconds), f"{text!r} did not appear in {self.seen!r}"

    def interrupt(self, text: str) -> None:
        self.write("\x03")
        self.wait_for(text)

    def _sees(self, text: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return False
            self.seen += os.read(self.fd, 4096).decode()
        self.seen = self.seen.partition(text)[2]
        return True


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    started = Terminal()
    started.wait_for("> ")
    yield started
    os.close(started.fd)
    os.waitpid(started.pid, 0)


def test_ctrl_c_clears_the_line_and_leaves_when_pressed_twice(terminal: Terminal) -> None:
    pytest.importorskip("readline")
    terminal.write("abc")
    terminal.wait_for("abc")
    terminal.interrupt("> ")
    terminal.write("next\r")
    terminal.wait_for("read 'next'")
    terminal.wait_for("> ")
    terminal.interrupt("/exit")
    terminal.wait_for("> ")
    terminal.write("more\r")
    terminal.wait_for("read 'more'")
    terminal.wait_for("> ")
    terminal.interrupt("/exit")
    terminal.wait_for("> ")
    terminal.interrupt("left")


def test_ctrl_c_needs_no_other_key(terminal: Terminal) -> None:
    pytest.importorskip("readline")
    terminal.write("elsewhere\r")
    terminal.wait_for("read 'elsewhere'")
    terminal.wait_for("/exit")
    terminal.wait_for("> ")
    terminal.write("next\r")
    terminal.wait_for("read 'next'")


@pytest.mark.parametrize(("key", "answer"), [("y\r", True), ("\r", False), ("\x03", False)])
def test_a_question_is_confirmed_by_y_only(terminal: Terminal, key: str, answer: bool) -> None:
    terminal.write("ask\r")
    terminal.wait_for("Sure? [y/N] ")
    if key == "\x03":
        terminal.interrupt(f"confirmed {answer}")
    else:
        terminal.write(key)
        terminal.wait_for(f"confirmed {answer}")
    terminal.wait_for("> ")
    terminal.write("\x04")
    terminal.wait_for("left")


def test_tab_completes_commands_and_paths(tmp_path: Path) -> None:
    (tmp_path / "my pictures").mkdir()
    (tmp_path / "my pictures" / "a[1].png").touch()
    commands = ("/image", "/help")
    assert completions("/i", commands) == ["/image "]
    assert completions("hello", commands) == completions("", commands) == []
    assert completions(f"/image {tmp_path}/my", commands) == [f"/image {tmp_path}/my pictures/"]
    found = completions(f"/image {tmp_path}/my pictures/a[", commands)
    assert found == [f"/image {tmp_path}/my pictures/a[1].png"]
