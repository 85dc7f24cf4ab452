"""What a model says cannot command the terminal that shows it; pipes and JSON get it unchanged."""

import json
import os
import pty
import subprocess
import sys
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from thinned import only

from handglass.runtime.answer.stream import TextStream
from handglass.runtime.system.printable import answer_text

ROOT = Path(__file__).parents[2]
HARMLESS = "圆 é\t👩🏽‍🚀 \u200fשלום\n"  # a joined emoji; Hebrew after a mark
HOSTILE = "\x1b[2J\x1b]52;c;cm0=\x07\x9b2J\x7f\r\x08\x00\u202ea\u2066b\u2069"
ESCAPED = r"\x1b[2J\x1b]52;c;cm0=\x07\x9b2J\x7f\r\x08\x00\u202ea\u2066b\u2069"

SAYS = """
import json, sys
import handglass
from cli_model import FakeModel
from handglass.cli.main import main

model = FakeModel()
model.pieces = json.loads(sys.argv.pop(1))
handglass.load = lambda *_, **__: model
main()
"""
WAITS = """
import json, sys
import handglass
from cli_model import FakeModel, FakeStream
from handglass.cli.main import main

class Waiting(FakeStream):
    def with_thoughts(self):
        for piece in self.pieces:
            yield piece
            sys.stdin.read(1)

model = FakeModel()
pieces = json.loads(sys.argv.pop(1))
model.chat = lambda *_, **__: Waiting(pieces, "stop")
handglass.load = lambda *_, **__: model
main()
"""
DEPLOYED = """
import json, sys
from dataclasses import asdict
from cli_model import TIMINGS
from handglass.cli.deploy import print_text
from handglass.targets.deploy.deploy import Deployment

done = Deployment("board", "folder", "target", "")
done.answer = {"text": "".join(json.loads(sys.argv[1])), "timings": asdict(TIMINGS)}
print_text(done)
"""
RUN = ("run", "-m", "bundle", "-p", "Hi")
CHAT = ("chat", "-m", "bundle")


def command(program: str, pieces: Sequence[str], *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, json.dumps(pieces), *arguments]


def environment() -> dict[str, str]:
    tests = ROOT / "tests"
    paths = [ROOT, tests / "cli", tests / "support"]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONIOENCODING": "utf-8",
    }


@contextmanager
def on_terminal(words: list[str]) -> Iterator[tuple[IO[bytes], int]]:
    """The pipe into a process, and a descriptor of the terminal that is its standard output."""
    master, slave = pty.openpty()
    tty.setraw(slave)  # the terminal adds nothing
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=slave, stderr=subprocess.DEVNULL, env=environment()
    ) as process:
        os.close(slave)
        assert process.stdin is not None
        try:
            yield process.stdin, master
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(master)


def rest_of(terminal: int) -> str:
    """All that is written until the process ends, when Linux reports EIO."""
    seen = b""
    try:
        while data := os.read(terminal, 4096):
            seen += data
    except OSError:
        pass
    return seen.decode()


@pytest.mark.parametrize(
    ("program", "arguments"),
    only(
        [(SAYS, RUN), (DEPLOYED, ())],
        [(SAYS, RUN), (SAYS, (*RUN, "--no-stream")), (SAYS, CHAT), (DEPLOYED, ())],
    ),
)
def test_a_terminal_gets_it_escaped_and_a_pipe_gets_it_exact(
    program: str, arguments: tuple[str, ...]
) -> None:
    words = command(program, [HARMLESS, *HOSTILE], *arguments)
    with on_terminal(words) as (pipe, terminal):
        pipe.write(b"Hi\n")
        pipe.close()
        assert rest_of(terminal) == f"{HARMLESS}{ESCAPED}\n"
    done = subprocess.run(words, input=b"Hi\n", capture_output=True, env=environment(), timeout=60)
    assert done.stdout.decode() == f"{HARMLESS}{HOSTILE}\n"


@pytest.mark.parametrize("arguments", [RUN, CHAT], ids=["run", "chat"])
def test_json_is_exact_on_a_terminal(arguments: tuple[str, ...]) -> None:
    with on_terminal(command(SAYS, [HARMLESS, HOSTILE], *arguments, "--json")) as (pipe, terminal):
        pipe.write(b"Hi\n")
        pipe.close()
        line = rest_of(terminal).removesuffix("\n")
    assert line.isprintable()
    assert json.loads(line)["text"] == HARMLESS + HOSTILE


def test_each_piece_is_shown_as_it_comes() -> None:
    pieces = ["圆", "👩", "\u200d", "🚀", "\x1b", "[2J", "é"]
    with on_terminal(command(WAITS, pieces, *RUN)) as (pipe, terminal):
        for piece in pieces:
            shown = answer_text(piece)
            assert read_exactly(terminal, len(shown.encode())) == shown
            pipe.write(b"x")
            pipe.flush()
        assert rest_of(terminal) == "\n"


def read_exactly(terminal: int, count: int) -> str:
    seen = b""
    while len(seen) < count:
        seen += os.read(terminal, 4096)
    return seen.decode()


def test_bytes_that_form_a_control_character_are_escaped_together() -> None:
    stream = TextStream()
    pieces = [stream.feed(bytes([byte])) for byte in (HARMLESS + HOSTILE).encode()]
    assert "".join(map(answer_text, pieces)) == HARMLESS + ESCAPED


def test_exactly_the_controls_and_overrides_are_escaped() -> None:
    changed = {code for code in range(0x110000) if answer_text(chr(code)) != chr(code)}
    controls = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}
    assert changed == controls | {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
