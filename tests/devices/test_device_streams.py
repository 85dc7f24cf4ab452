"""The device server's module keeps the rules of `handglass` for its standard streams."""

import json
import os
import subprocess
import sys

import pytest
from redirected import FULL, ROOT, full, shell
from terminal_process import TerminalProcess

MODULE = "handglass.runtime.remote"
SERVE = ("--port", "0", "--until-eof")  # at the end of its input it ends, in this case at once
EXPOSED = ("--host", "0.0.0.0")
NO_SPACE = b"error: standard output: No space left on device\n"


@full
@pytest.mark.parametrize("flags", [SERVE, (*SERVE, "--json"), ("--help",)])
def test_a_full_output_is_a_device_error(flags: tuple[str, ...]) -> None:
    done = shell(f">{FULL}", MODULE, *flags)
    assert (done.returncode, done.stderr) == (4, NO_SPACE)


@full
def test_messages_that_cannot_be_written_are_lost_alone() -> None:
    assert json.loads(shell(f"2>{FULL}", MODULE, *SERVE, "--json").stdout)["port"]
    assert shell(f"2>{FULL}", MODULE, *EXPOSED).returncode == 2
    assert shell(f">{FULL} 2>{FULL}", MODULE, "--frob").returncode == 2
    assert shell(f">{FULL} 2>{FULL}", MODULE, *SERVE).returncode == 4


@full
def test_an_error_is_told_though_the_output_is_full() -> None:
    done = shell(f">{FULL}", MODULE, *EXPOSED)
    assert done.returncode == 2 and done.stderr.startswith(b"error: --host 0.0.0.0")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_exit_code(closed: str) -> None:
    served = shell(closed, MODULE, *SERVE)
    assert (served.returncode, served.stderr) == (0, b"")
    assert shell(closed, MODULE, *EXPOSED).returncode == 2
    helped = shell(closed, MODULE, "--help")
    assert (helped.returncode, helped.stderr) == (0, b"")


CLOSED_INPUT = """
import os, sys
from handglass.runtime.remote import serving
from handglass.runtime.remote.__main__ import main
class Server:
    def __init__(self, listener, key, settings, until_eof):
        assert listener.fileno() > 2 and os.read(until_eof, 1) == b""
        print("checked")
    def run(self, announce):
        pass
serving.DeviceServer = Server
sys.exit(main())
"""


def test_the_listener_does_not_take_the_number_of_closed_input() -> None:
    """--until-eof would read the listening socket."""
    command = [sys.executable, "-c", CLOSED_INPUT, *SERVE, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    done = subprocess.run(closed, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("checked\n")


def test_a_reader_that_has_left_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", MODULE, *SERVE],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("verb", [(MODULE,), ("handglass.cli.main", "device", "serve")])
def test_ctrl_c_ends_it_with_a_word_and_a_whole_line(verb: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", *verb, "--port", 0]
    server = TerminalProcess(command, {**os.environ, "PYTHONPATH": str(ROOT)})
    server.until("--rpc 127.0.0.1:")
    server.until("\n")
    server.interrupt()
    assert server.rest().endswith("^Cstopped\r\n")
    assert server.close() == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_encoding_lacks_is_escaped(encoding: str) -> None:
    name = b"/none/\xff \xe4\xbd\xa0"  # not UTF-8, then a Chinese character
    done = shell("", MODULE, "--runtime", name, PYTHONIOENCODING=encoding)
    assert done.returncode == 3 and b"\\udcff \\u4f60: no such file" in done.stderr
    assert done.stderr.count(b"\n") == 1
