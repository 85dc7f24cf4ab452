"""The state of `handglass chat`: turns, pictures for the next question, and the slash commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from handglass.errors import InputError, UsageError
from handglass.runtime.prompt.chat_template import MARK

from .answer import Speaker, answer_json
from .output import print_json
from .picture_paths import entered_path, entered_pictures

if TYPE_CHECKING:
    from handglass.runtime.answer.model import Answer, Model
    from handglass.runtime.prompt.preprocess import Prepared
    from handglass.runtime.prompt.video.reader import PreparedVideo

    Shown = Prepared | PreparedVideo

HELP = """\
/image PATH  show a picture with the next question; a picture's path alone does the same
/video PATH  show a video or a folder of frames with the next question
/reset       forget the conversation
/help        this list
/exit        leave (or Ctrl-D)"""
COMMANDS = ("/image", "/video", "/reset", "/help", "/exit")
HOW_TO_SHORTEN = "/reset forgets the conversation"
OFFER = "Forget the oldest question and answer, and ask again?"


class Conversation:
    """`silent` prints one JSON object per turn instead of the answer."""

    def __init__(
        self,
        model: Model,
        speaker: Speaker,
        silent: bool = False,
        confirmed: Callable[[str], bool] = lambda question: False,
    ) -> None:
        self.model = model
        self.speaker = speaker
        self.silent = silent
        self.confirmed = confirmed
        self.turns: list[dict[str, str]] = []
        self.pictures: list[Shown] = []  # of all turns, in the order of their marks
        self.waiting: list[Shown] = []  # for the next question

    def take(self, line: str) -> bool:
        """Process a slash command, a picture or a question. Returns False on /exit."""
        name, _, argument = line.partition(" ")
        commands: dict[str, Callable[[str], bool]] = {
            "/image": self.show,
            "/video": self.show_video,
            "/reset": self.reset,
            "/help": self.help,
            "/exit": lambda _: False,
        }
        if name in commands:
            return commands[name](argument.strip())
        if pictures := entered_pictures(line):
            for path in pictures:
                self.show(str(path))
        elif line.startswith("/"):
            raise UsageError(f"unknown command {name}: use one of {', '.join(commands)}")
        elif line:
            self.ask(line)
        return True

    def ask(self, text: str) -> None:
        """Ask a question. The turn enters the history only once it has been answered."""
        mark = MARK + self.model.manifest.prompt.between
        shown = text if MARK in text else mark * len(self.waiting) + text
        answer = self._answer({"role": "user", "content": shown})
        if self.silent:
            print_json({"prompt": text, "images": len(self.waiting), **answer_json(answer)})
        self.turns += [
            {"role": "user", "content": shown},
            {"role": "assistant", "content": answer.text},
        ]
        self.pictures, self.waiting = [*self.pictures, *self.waiting], []

    def _answer(self, question: dict[str, str]) -> Answer:
        """Ask with the history. If it is too long, offer to forget its oldest turns."""
        from handglass.runtime.answer.generate import ContextFullError

        while True:
            pictures = [*self.pictures, *self.waiting]
            try:
                turns = [*self.turns, question]
                return self.speaker.ask(self.model, turns, pictures, self.silent)
            except ContextFullError as error:
                if not self.turns:
                    raise
                if not self.confirmed(f"{error.counts}. {OFFER}"):
                    raise InputError(f"{error.counts}; {HOW_TO_SHORTEN}") from error
                self.forget_oldest()

    def forget_oldest(self) -> None:
        """Drop the first question, its answer and its pictures."""
        del self.pictures[: self.turns[0]["content"].count(MARK)]
        del self.turns[:2]

    def show(self, text: str) -> bool:
        if not text:
            raise UsageError("/image needs a path: /image PATH")
        path = entered_path(text)
        self.waiting.append(self.speaker.prepare(self.model, path))
        if not self.silent:
            print(f"{path.name}: shown with the next question", file=sys.stderr)
        return True

    def show_video(self, text: str) -> bool:
        if not text:
            raise UsageError("/video needs a path: /video PATH")
        path = entered_path(text)
        video = self.speaker.prepare_video(self.model, path)
        self.waiting.append(video)
        if not self.silent:
            print(f"{path.name}: {_extent(video)} shown with the next question", file=sys.stderr)
        return True

    def reset(self, argument: str) -> bool:
        self.turns, self.pictures, self.waiting = [], [], []
        return True

    def help(self, argument: str) -> bool:
        print(HELP, file=sys.stderr)
        return True


def _extent(video: PreparedVideo) -> str:
    from handglass.runtime.prompt.video.groups import frame_count

    frames = sum(map(frame_count, video.frames))
    tokens = sum(tile.rows for tiles in video.frames for tile in tiles)
    return f"{frames} frame{'' if frames == 1 else 's'} ({tokens} tokens)"
