"""Asks a loaded model: streams the answer to standard output, prints a footer to standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import handglass
from handglass.errors import UsageError
from handglass.runtime.answer.model import Answer, AnswerStream, Model
from handglass.runtime.answer.sampler import Sampling
from handglass.runtime.answer.thoughts import Thought
from handglass.runtime.prompt.messages import SYSTEM, with_system
from handglass.runtime.prompt.preprocess import Prepared
from handglass.runtime.prompt.video.reader import PreparedVideo
from handglass.runtime.prompt.video.sampling import VideoOptions
from handglass.runtime.system.printable import answer_text

from .footer import footer, sampling_text
from .terminal import takes_codes
from .tile_progress import pieces_after_tiles

DIM, NOT_DIM = "\x1b[2m", "\x1b[22m"


@dataclass(frozen=True)
class Speaker:
    """The options of the command line for answers; None leaves the choice to the bundle.

    Raises UsageError for a value out of range, before anything is loaded.
    """

    max_tokens: int | None = None
    temp: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    max_slices: int | None = None
    thinking: bool | None = None
    frames: int | None = None
    fps: float | None = None
    packing: int | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        names = {field.name for field in fields(Sampling)}
        Sampling(**{name: value for name, value in self.given.items() if name in names})
        VideoOptions(self.frames, self.fps, self.packing)

    @property
    def given(self) -> dict[str, Any]:
        """The options that `Model.chat` takes."""
        options = {name: value for name, value in asdict(self).items() if value is not None}
        options.pop("system", None)
        return options

    @property
    def video(self) -> VideoOptions | None:
        """The options of videos; None if none is given."""
        options = VideoOptions(self.frames, self.fps, self.packing)
        return None if options == VideoOptions() else options

    def load(
        self, bundle: Path, threads: int | None, device: str | None, with_videos: bool = False
    ) -> Model:
        model: Model = handglass.load(bundle, threads=threads, device=device)
        if self.system is not None and SYSTEM not in model.manifest.prompt.roles:
            raise UsageError(
                "--system: this model has no system role; put the instructions into the question"
            )
        video = self.video or (VideoOptions() if with_videos else None)
        if self.max_slices is not None or self.thinking is not None or video is not None:
            model.check(self.max_slices, self.thinking, video)
        return model

    def prepare(self, model: Model, picture: Path | bytes) -> Prepared:
        return model.prepare(picture, self.max_slices)

    def prepare_video(self, model: Model, video: Path) -> PreparedVideo:
        return model.prepare_video(video, self.max_slices, self.video or VideoOptions())

    def ask(
        self,
        model: Model,
        messages: str | Sequence[Mapping[str, Any]],
        images: Sequence[Any],
        silent: bool = False,
        stream: bool = True,
        videos: Sequence[Path] = (),
    ) -> Answer:
        shown: dict[str, Any] = {"videos": videos} if videos else {}
        turns = with_system(messages, self.system)
        pieces: AnswerStream = model.chat(turns, images, stream=True, **shown, **self.given)
        printer = Printer()
        said: list[str] = []
        with interruptible(said):
            for piece in pieces_after_tiles(pieces, silent):
                said.append(piece)
                if stream and not silent:
                    printer.print(piece)
            answer = pieces.finish()
        if not silent:
            if not stream:
                printer.print(Thought(answer.thinking))
                printer.print(answer.text)
            print(flush=True)
            sampling = sampling_text(model.manifest.prompt.sampling, self.given)
            print(footer(asdict(answer.timings), sampling), file=sys.stderr)
            if answer.finish_reason == "length":
                print(cut_text(answer), file=sys.stderr)
        return answer


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of an answer, of which `text` was said.

    `outcome` continues the sentence "interrupted".
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.outcome = " before the answer began; /retry asks again"


@contextmanager
def interruptible(said: list[str]) -> Iterator[None]:
    """Tell an interrupt what was said until then; thoughts are no part of it."""
    try:
        yield
    except KeyboardInterrupt as error:
        text = "".join(piece for piece in said if not isinstance(piece, Thought))
        raise Interrupted(text) from error


class Printer:
    """Prints pieces of an answer: on a terminal escaped, and thoughts dim if it can; elsewhere
    exact, without the thoughts."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._dims = takes_codes(sys.stdout)
        self._is_thinking = False

    def print(self, piece: str) -> None:
        is_thought = isinstance(piece, Thought)
        if not piece or (is_thought and not self._is_terminal):
            return
        if self._is_thinking and not is_thought:
            print("\n")
        self._is_thinking = is_thought
        text = answer_text(piece) if self._is_terminal else piece
        dims = is_thought and self._dims
        print(f"{DIM}{text}{NOT_DIM}" if dims else text, end="", flush=True)


def cut_text(answer: Answer) -> str:
    """Why an answer ends before the model ended it."""
    if answer.cut_by == "context":
        return "the answer is cut: the context of this bundle is full"
    count = len(answer.tokens)
    return f"the answer is cut after {count} token{'' if count == 1 else 's'}; -n sets the limit"


def answer_json(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "thinking": answer.thinking,
        "tokens": list(answer.tokens),
        "finish_reason": answer.finish_reason,
        "timings": asdict(answer.timings),
    }
