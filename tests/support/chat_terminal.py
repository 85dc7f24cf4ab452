"""`handglass chat` on a pseudo terminal, with a model whose session is a fake."""

import codecs
import contextlib
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = [str(ROOT), *(str(ROOT / "tests" / name) for name in ("support", "answers"))]
PROGRAM = f"""
import sys
sys.path[:0] = {FOLDERS}
from dataclasses import replace
from fake_session import FakeSession
from scripted_model import MANIFEST, PROMPT, TOKENIZER, says
from test_kept_cache import Session
import handglass
from handglass.cli.main import main
from handglass.runtime.answer.model import Model
from handglass.runtime.bundle.entries import Around, StateEntry, StateTensor

session = Session("rewindable", True)
session._inner = FakeSession(TOKENIZER.vocab_size, 200, 4, says("It is a red square."))
session._inner.step_s = 0.02
state = StateEntry(200, (StateTensor("rows", (200, 8), "float32"),))
prompt = replace(PROMPT, roles={{**PROMPT.roles, "system": Around("<s>")}})
model = Model(session, TOKENIZER, replace(MANIFEST, state=state, prompt=prompt), load_s=0.1)
handglass.load = lambda *_, **__: model
sys.argv = ["handglass", "chat", "-m", "bundle", *sys.argv[1:]]
main()
"""
UNSET = ("TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM", "NO_COLOR", "DISPLAY", "WAYLAND_DISPLAY")


class Chat:
    """A chat on a terminal with true colours."""

    def __init__(
        self,
        *flags: object,
        program: str = PROGRAM,
        term: str = "xterm-256color",
        columns: int = 100,
    ) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in UNSET}
        environment.update(TERM=term, COLORTERM="truecolor")
        words = list(map(str, flags))
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.execve(sys.executable, [sys.executable, "-c", program, *words], environment)
        self.resize(columns)
        self._seen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.until("Ctrl-D)")
        self.greeting = self.until("\n> ")

    def until(self, text: str, seconds: float = 90) -> str:
        """Read up to this text; returns what came before it."""
        return self.until_one_of(text, seconds=seconds)

    def until_one_of(self, *texts: str, seconds: float = 90) -> str:
        """Read up to the first of these texts that has come; returns what came before it."""
        end = time.monotonic() + seconds
        while not (found := [text for text in texts if text in self._seen]):
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"none of {texts} appeared in {self._seen!r}"
            self._seen += self._decoder.decode(os.read(self.fd, 65536))
            if "\x1b[c" in self._seen:  # it asks what the terminal is
                os.write(self.fd, b"\x1b[?6c")
                self._seen = self._seen.replace("\x1b[c", "")
        before, _, self._seen = self._seen.partition(found[0])
        return before

    def enter(self, line: object, then: str) -> str:
        """Enter a line; returns what appears up to `then`, and reads on to the next prompt."""
        os.write(self.fd, f"{line}\r".encode())
        shown = self.until(then)
        self.until("\n> ")
        return shown

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def resize(self, columns: int, rows: int = 40) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def interrupt(self) -> None:
        os.write(self.fd, b"\x03")

    def leave(self) -> int:
        """The exit code after /exit."""
        os.write(self.fd, b"/exit\r")
        with contextlib.suppress(OSError):  # how Linux tells that the other end is closed
            while os.read(self.fd, 65536):
                pass
        return self.close()

    def close(self) -> int:
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
