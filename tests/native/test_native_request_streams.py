"""The module that writes requests keeps the rules of `handglass` for its standard streams."""

import json
import os
import pty
from pathlib import Path

import pytest
from redirected import FULL, full, shell

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from test_native_request import FOOTER
from thinned import thinned

from handglass.runtime.answer.native_request import RequestWriter

pytestmark = pytest.mark.compiler

MODULE = "handglass.runtime.answer.native_request"


@pytest.fixture
def answer(small_bundle: Path, tmp_path: Path) -> str:
    """A file with the output of the runner, for the answer "é"."""
    ids = RequestWriter(small_bundle).tokenizer.encode("é")
    path = tmp_path / "answer"
    path.write_text("".join(f"{id}\n" for id in [*ids, json.dumps(FOOTER)]))
    return str(path)


@full
def test_a_full_output_is_a_device_error(small_bundle: Path, answer: str, tmp_path: Path) -> None:
    asked = (str(tmp_path / "question"), "-p", "What?")
    for flags in (("--read", answer), asked, ("--help",)):
        done = shell(f">{FULL}", MODULE, str(small_bundle), *flags)
        assert done.returncode == 4
        assert done.stderr == b"error: standard output: No space left on device\n"


@full
def test_messages_that_cannot_be_written_are_lost_alone(small_bundle: Path, answer: str) -> None:
    assert shell(f"2>{FULL}", MODULE, str(small_bundle), "--read", answer).returncode == 0
    assert shell(f"2>{FULL}", MODULE, str(small_bundle)).returncode == 2
    assert shell(f">{FULL} 2>{FULL}", MODULE, str(small_bundle), "--frob").returncode == 2


@pytest.mark.parametrize("closed", thinned(3, ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]))
def test_closed_streams_change_no_exit_code(small_bundle: Path, answer: str, closed: str) -> None:
    read = shell(closed, MODULE, str(small_bundle), "--read", answer)
    assert (read.returncode, read.stderr) == (0, b"")
    assert shell(closed, MODULE, str(small_bundle), "--read", "none").returncode == 3
    assert shell(closed, MODULE, str(small_bundle)).returncode == 2


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ("<&-", b"not the output of handglass-native run"),
        ("0>/dev/null", b"standard input: Bad file descriptor"),
    ],
)
def test_input_without_an_answer(small_bundle: Path, input: str, message: bytes) -> None:
    done = shell(input, MODULE, str(small_bundle), "--read", "-")
    assert done.returncode == 3 and done.stderr.startswith(b"error: " + message)
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(("encoding", "text"), [("ascii", rb"\xe9"), ("latin-1", b"\xe9")])
def test_what_the_encoding_lacks_is_escaped(
    small_bundle: Path, answer: str, encoding: str, text: bytes
) -> None:
    done = shell("", MODULE, str(small_bundle), "--read", answer, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout.strip()) == (0, text), done.stderr
    name = b"none \xff"
    done = shell("", MODULE, str(small_bundle), "--read", name, PYTHONIOENCODING=encoding)
    assert done.returncode == 3 and b"none \\udcff: cannot be read" in done.stderr


def test_an_answer_is_escaped_on_a_terminal_only(small_bundle: Path, tmp_path: Path) -> None:
    ids = RequestWriter(small_bundle).tokenizer.encode("\x1b[2J")
    path = tmp_path / "answer"
    path.write_text("".join(f"{id}\n" for id in [*ids, json.dumps(FOOTER)]))
    flags = (str(small_bundle), "--read", str(path))
    assert shell("", MODULE, *flags).stdout.strip() == b"\x1b[2J"
    master, slave = pty.openpty()
    assert shell(f">{os.ttyname(slave)}", MODULE, *flags).returncode == 0
    assert os.read(master, 4096).strip() == rb"\x1b[2J"
    os.close(slave)
    os.close(master)
