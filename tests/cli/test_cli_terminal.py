"""The prompt of `handglass chat` on a pseudo-terminal, and what Tab completes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal_process import TerminalProcess

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


@pytest.fixture
def terminal() -> Iterator[TerminalProcess]:
    started = TerminalProcess([sys.executable, "-c", PROGRAM])
    started.until("> ")
    yield started
    started.close()


def test_ctrl_c_clears_the_line_and_leaves_when_pressed_twice(terminal: TerminalProcess) -> None:
    pytest.importorskip("readline")
    terminal.write("abc")
    terminal.until("abc")
    terminal.interrupt()
    terminal.until("> ")
    terminal.write("next\r")
    terminal.until("read 'next'")
    terminal.until("> ")
    terminal.interrupt()
    terminal.until("/exit")
    terminal.until("> ")
    terminal.write("more\r")
    terminal.until("read 'more'")
    terminal.until("> ")
    terminal.interrupt()
    terminal.until("/exit")
    terminal.until("> ")
    terminal.interrupt()
    terminal.until("left")


def test_ctrl_c_needs_no_other_key(terminal: TerminalProcess) -> None:
    pytest.importorskip("readline")
    terminal.write("elsewhere\r")
    terminal.until("read 'elsewhere'")
    terminal.until("/exit")
    terminal.until("> ")
    terminal.write("next\r")
    terminal.until("read 'next'")


@pytest.mark.parametrize(("key", "answer"), [("y\r", True), ("\r", False), ("\x03", False)])
def test_a_question_is_confirmed_by_y_only(
    terminal: TerminalProcess, key: str, answer: bool
) -> None:
    terminal.write("ask\r")
    terminal.until("Sure? [y/N] ")
    if key == "\x03":
        terminal.interrupt()
        terminal.until(f"confirmed {answer}")
    else:
        terminal.write(key)
        terminal.until(f"confirmed {answer}")
    terminal.until("> ")
    terminal.write("\x04")
    terminal.until("left")


def test_tab_completes_commands_and_paths(tmp_path: Path) -> None:
    (tmp_path / "my pictures").mkdir()
    (tmp_path / "my pictures" / "a[1].png").touch()
    commands = ("/image", "/help")
    assert completions("/i", commands) == ["/image "]
    assert completions("hello", commands) == completions("", commands) == []
    assert completions(f"/image {tmp_path}/my", commands) == [f"/image {tmp_path}/my pictures/"]
    found = completions(f"/image {tmp_path}/my pictures/a[", commands)
    assert found == [f"/image {tmp_path}/my pictures/a[1].png"]
