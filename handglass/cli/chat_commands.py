"""The slash commands of `handglass chat`, as a table, and what a line of input means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from handglass.errors import InputError, UsageError
from handglass.runtime.prompt.messages import MARK
from handglass.runtime.prompt.pictures.limits import FILE_BYTES
from handglass.runtime.system.regular_file import read_regular

from .chat_stats import stats_lines, stats_of
from .conversation import Conversation, Shown
from .output import print_json
from .picture_paths import entered_path, entered_pictures
from .preview import OFF, Preview

if TYPE_CHECKING:
    from handglass.runtime.prompt.video.reader import PreparedVideo

Act = Callable[[str], object]
LEAVE = object()
"""What `Commands.take` returns when the conversation is over."""


class Command(NamedTuple):
    name: str
    argument: str
    help: str
    takes_path: bool = False

    @property
    def usage(self) -> str:
        return f"{self.name} {self.argument}".strip()


TABLE = (
    Command("/image", "PATH", "show a picture with the next question; its path alone does", True),
    Command("/paste", "", "show the picture in the clipboard with the next question"),
    Command("/video", "PATH", "show a video or a folder of frames with the next question", True),
    Command("/undo", "", "take back the last picture, or the last question and answer"),
    Command("/retry", "", "ask the last question again"),
    Command("/system", "TEXT", "instructions for the whole conversation; '/system -': none"),
    Command("/save", "FILE", "keep the conversation with its pictures and what was computed", True),
    Command("/load", "FILE", "go on with a kept conversation; nothing is computed again", True),
    Command("/stats", "", "tokens, what was reused, times and memory"),
    Command("/reset", "", "forget the conversation"),
    Command("/help", "", "this list"),
    Command("/exit", "", "leave (or Ctrl-D)"),
)
COMMANDS = tuple(command.name for command in TABLE)
WITHOUT_ARGUMENT = tuple(command.name for command in TABLE if not command.argument)
WITH_PATHS = tuple(command.name for command in TABLE if command.takes_path)


def help_text() -> str:
    width = max(len(command.usage) for command in TABLE)
    return "\n".join(f"{command.usage:{width}}  {command.help}" for command in TABLE)


class Commands:
    """What the lines of a person do to a conversation."""

    def __init__(
        self, talk: Conversation, preview: Preview | None = None, bundle: str = ""
    ) -> None:
        self.talk = talk
        self.preview = preview or Preview(OFF)
        self._bundle = bundle  # its name
        self._file: Path | None = None  # the last one saved or loaded
        self._acts: dict[str, Act] = {
            "/image": self.show,
            "/paste": self.paste,
            "/video": self.show_video,
            "/undo": lambda _: talk.undo(),
            "/retry": lambda _: talk.retry(),
            "/system": self.instruct,
            "/save": self.save,
            "/load": self.load,
            "/stats": self.stats,
            "/reset": self.reset,
            "/help": lambda _: talk.say(help_text()),
            "/exit": lambda _: LEAVE,
        }

    def take(self, line: str) -> bool:
        """Process a slash command, a picture or a question. Returns False on /exit."""
        name, _, argument = line.partition(" ")
        if name in self._acts:
            if argument.strip() and name in WITHOUT_ARGUMENT:
                raise UsageError(f"{name} takes nothing behind it, but there is {argument!r:.60}")
            return self._acts[name](argument.strip()) is not LEAVE
        if pictures := entered_pictures(line):
            self._show_all(pictures)
        elif line.startswith("/"):
            raise UsageError(f"unknown command {name}: use one of {', '.join(self._acts)}")
        elif line:
            self.talk.ask(line)
        return True

    def show(self, text: str) -> None:
        self._show_all([_path_of("/image", text)])

    def _show_all(self, paths: Sequence[Path]) -> None:
        for path in paths:
            prepared = self.talk.speaker.prepare(self.talk.model, path)
            self._shown(Shown(path.name, prepared, _content(path)))

    def paste(self, _: str) -> None:
        from .clipboard import pasted

        found = pasted()
        if found.files:
            self._show_all(found.files)
        else:
            prepared = self.talk.speaker.prepare(self.talk.model, found.data)
            self._shown(Shown("the pasted picture", prepared, found.data))

    def _shown(self, shown: Shown) -> None:
        from handglass.runtime.prompt.preprocess import read_picture

        self.talk.show(shown)
        if self.preview.way != OFF and not self.talk.silent:
            self.preview.show(read_picture(shown.original))
        self.talk.say(f"{shown.name}: shown with the next question")

    def show_video(self, text: str) -> None:
        path = _path_of("/video", text)
        video = self.talk.speaker.prepare_video(self.talk.model, path)
        self.talk.show(Shown(path.name, video))
        self.talk.say(f"{path.name}: {_extent(video)} shown with the next question")

    def instruct(self, text: str) -> None:
        if text:
            self.talk.instruct(None if text == "-" else text)
        system = self.talk.speaker.system
        self.talk.say("no instructions" if system is None else f"instructions: {system}")

    def save(self, text: str) -> None:
        """Without a name, in the file of the last `/save` or `/load`."""
        from .chat_files import save

        path = self._file if not text and self._file else _path_of("/save", text)
        self.talk.say(save(self.talk, path, self._bundle))
        self._file = path

    def load(self, text: str) -> None:
        self.open(_path_of("/load", text))

    def open(self, path: Path) -> None:
        """Go on with a kept conversation."""
        from .chat_files import load

        self.talk.say(load(self.talk, path))
        self._file = path
        if self.talk.exchanges:
            last = self.talk.exchanges[-1]
            self.talk.say(f"> {last.question.replace(MARK, '')}\n{last.answer}")

    def reset(self, _: str) -> None:
        self.talk.reset()
        self.talk.say("the conversation is forgotten")

    def stats(self, _: str) -> None:
        if self.talk.silent:
            print_json({"stats": stats_of(self.talk)})
        else:
            self.talk.say("\n".join(stats_lines(self.talk)))


def _path_of(command: str, text: str) -> Path:
    if not text:
        raise UsageError(f"{command} needs a path: {command} PATH")
    if "\0" in text:
        raise UsageError(f"{command} {text!r:.200}: a path has no zero byte")
    return entered_path(text)


def _content(path: Path) -> bytes:
    """The picture's file, which a kept conversation contains."""
    try:
        return read_regular(path, FILE_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _extent(video: PreparedVideo) -> str:
    from handglass.runtime.prompt.video.groups import frame_count

    frames = sum(map(frame_count, video.frames))
    tokens = sum(tile.rows for tiles in video.frames for tile in tiles)
    return f"{frames} frame{'' if frames == 1 else 's'} ({tokens} tokens)"
