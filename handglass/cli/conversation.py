"""The state of `handglass chat`: turns, pictures for the next question, and the slash commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handglass.errors import UsageError
from handglass.runtime.prompt.chat_template import MARK

from .answer import Speaker, answer_json

if TYPE_CHECKING:
    from handglass.runtime.answer.model import Model
    from handglass.runtime.prompt.preprocess import Prepared

HELP = """\
/image PATH  show a picture with the next question
/reset       forget the conversation
/help        this list
/exit        leave (or Ctrl-D)"""


class Conversation:
    def __init__(self, model: Model, speaker: Speaker, silent: bool = False) -> None:
        self.model = model
        self.speaker = speaker
        self.silent = silent
        self.turns: list[dict[str, str]] = []
        self.pictures: list[Prepared] = []  # of all turns, in the order of their marks
        self.waiting: list[Prepared] = []  # for the next question
        self.record: list[dict[str, Any]] = []  # kept across /reset

    def take(self, line: str) -> bool:
        """Process a slash command or a question. Returns False on /exit."""
        if not line.startswith("/"):
            if line:
                self.ask(line)
            return True
        name, _, argument = line.partition(" ")
        commands: dict[str, Callable[[str], bool]] = {
            "/image": self.show,
            "/reset": self.reset,
            "/help": self.help,
            "/exit": lambda _: False,
        }
        if name not in commands:
            raise UsageError(f"unknown command {name}: use one of {', '.join(commands)}")
        return commands[name](argument.strip())

    def ask(self, text: str) -> None:
        """Ask a question. The turn enters the history only once it has been answered."""
        shown = text if MARK in text else MARK * len(self.waiting) + text
        turns = [*self.turns, {"role": "user", "content": shown}]
        pictures = [*self.pictures, *self.waiting]
        answer = self.speaker.ask(self.model, turns, pictures, self.silent)
        self.record.append({"prompt": text, "images": len(self.waiting), **answer_json(answer)})
        self.turns = [*turns, {"role": "assistant", "content": answer.text}]
        self.pictures, self.waiting = pictures, []

    def show(self, path: str) -> bool:
        if not path:
            raise UsageError("/image needs a path: /image PATH")
        self.waiting.append(self.model.prepare(Path(path.strip("\"'")).expanduser()))
        return True

    def reset(self, argument: str) -> bool:
        self.turns, self.pictures, self.waiting = [], [], []
        return True

    def help(self, argument: str) -> bool:
        print(HELP, file=sys.stderr)
        return True
