"""`handglass chat` on a pseudo terminal, with a model whose session is a fake."""

import os
import sys
from pathlib import Path

from terminal_process import TerminalProcess

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


class Chat(TerminalProcess):
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
        super().__init__([sys.executable, "-c", program, *flags], environment)
        self.resize(columns)
        self.until("Ctrl-D)")
        self.greeting = self.until("\n> ")

    def enter(self, line: object, then: str) -> str:
        """Enter a line; returns what appears up to `then`, and reads on to the next prompt."""
        self.write(f"{line}\r")
        shown = self.until(then)
        self.until("\n> ")
        return shown

    def leave(self) -> int:
        """The exit code after /exit."""
        self.write("/exit\r")
        self.rest()
        return self.close()
