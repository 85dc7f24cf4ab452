"""A fake model for the command line: it notes its questions and gives one answer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from handglass.errors import UsageError
from handglass.runtime.answer.model import Answer
from handglass.runtime.answer.thoughts import Thought
from handglass.runtime.answer.timings import Timings
from handglass.runtime.prompt.preprocess import read_picture
from handglass.runtime.prompt.video.reader import PreparedVideo

TIMINGS = Timings(
    load_s=0.5,
    encode_ms=(812.4,),
    image_tokens=(64,),
    video_frames=(0,),
    prefill_tokens=83,
    reused_tokens=0,
    prefill_tok_s=190.2,
    decode_tokens=128,
    decode_tok_s=31.23,
    ttft_ms=1250.0,
    peak_mb=1210.0,
)


class FakeStream:
    def __init__(self, pieces: list[str], reason: str) -> None:
        self.pieces = pieces
        self.reason = reason

    def watch(self, report: Callable[[int, int], None]) -> None:
        """Nothing is encoded."""

    def with_thoughts(self) -> Iterator[str]:
        return iter(self.pieces)

    def finish(self) -> Answer:
        text = "".join(p for p in self.pieces if not isinstance(p, Thought))
        thinking = "".join(p for p in self.pieces if isinstance(p, Thought))
        return Answer(text, (7, 8, 9), self.reason, TIMINGS, thinking=thinking)


class FakeModel:
    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.prepared: list[Any] = []
        prompt = SimpleNamespace(between="", sampling={}, roles=("user", "assistant"))
        state = SimpleNamespace(context=4096, tensors=(SimpleNamespace(nbytes=10 << 20),))
        self.manifest = SimpleNamespace(prompt=prompt, state=state)
        self.pieces: list[str] = ["A red ", "圆", "."]
        self.reason = "stop"

    def prepare(self, picture: Path, max_slices: int | None = None) -> Image.Image:
        self.prepared.append(max_slices)
        return read_picture(picture)

    def prepare_video(self, video: Path, max_slices: int | None, options: Any) -> PreparedVideo:
        self.prepared.append(options)
        tile = SimpleNamespace(rows=64)
        return PreparedVideo([[tile], [tile]], None)  # type: ignore[arg-type]

    def check(self, max_slices: int | None, thinking: bool | None, video: Any = None) -> None:
        if video is not None and video.fps == 99:
            raise UsageError("this model (x) takes no videos")
        if max_slices == 99:
            raise UsageError("max_slices=99 must be 1 to 9 for this model")

    def chat(self, messages: Any, images: Any, *, stream: bool, **options: Any) -> FakeStream:
        assert stream
        self.asked.append((messages, list(images), options))
        return FakeStream(self.pieces, self.reason)


def replace_model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """The model that `handglass.load` returns from now on; it notes how it was loaded."""
    fake = FakeModel()

    def load(path: Path, threads: int | None = None, device: str | None = None) -> FakeModel:
        fake.asked.append((path, threads))
        return fake

    monkeypatch.setattr("handglass.load", load, raising=False)
    return fake


def red_picture(folder: Path) -> Path:
    path = folder / "red.png"
    Image.new("RGB", (30, 20), "red").save(path)
    return path
