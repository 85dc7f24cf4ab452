"""Videos in a conversation, with a fake session: prompts, groups, context, caches."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_session import FakeSession
from test_chatml import tokenizer
from test_thoughts import MODEL, noise, says

from handglass.compiler.models.minicpmv46 import VIDEO
from handglass.errors import InputError, UsageError
from handglass.runtime.answer.generate import ContextFullError
from handglass.runtime.answer.model import Model
from handglass.runtime.bundle.entries import Around, MethodEntry
from handglass.runtime.prompt.chat_template import MARK, Slot
from handglass.runtime.prompt.video.sampling import VideoOptions

TOKENIZER = tokenizer()
PACKED = MethodEntry(
    "groups", {"fps": 3.0, "max_frames": 180, "packing": 3, "most_packing": 6, "tick": 0.1}
)
FRAMES = {"picture": Around("<image>", "</image>")}
ROWS = 64


def model(video: MethodEntry = VIDEO, context: int = 3000, **prompt: Any) -> Any:
    assert MODEL.vision is not None
    vision = dataclasses.replace(MODEL.vision, video=video)
    if video is PACKED:
        vision = dataclasses.replace(vision, query_num=ROWS, patches_per_row=0, window_levels=0)
    entry = dataclasses.replace(MODEL.prompt, **{"frames": FRAMES, **prompt})
    rows = ROWS if video is PACKED else 0
    session = FakeSession(TOKENIZER.vocab_size, context, rows, says("", "A circle."))
    return Model(session, TOKENIZER, dataclasses.replace(MODEL, vision=vision, prompt=entry))


def frames(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(count)
    return list(random.integers(0, 256, (count, 56, 56, 3), np.uint8))


def prompt_of(asked: Any, monkeypatch: pytest.MonkeyPatch, *args: Any, **options: Any) -> str:
    """The prompt as text, with [k] for a tile of picture k."""
    from handglass.runtime.answer import model as module

    built: list[Any] = []
    build = module.build_prompt

    def record(*arguments: Any) -> Any:
        built.append(build(*arguments))
        return built[-1]

    with monkeypatch.context() as patch:
        patch.setattr(module, "build_prompt", record)
        asked.chat(*args, **options)
    (prompt,) = built
    parts = (
        f"[{s.picture}]" if isinstance(s, Slot) else "".join(map(name, s.ids))
        for s in prompt.segments
    )
    return "".join(parts).split("<|im_start|>user\n")[-1].split("<|im_end|>")[0]


def name(token: int) -> str:
    special = TOKENIZER.name_of(token)
    return special or TOKENIZER.surface(token).decode()


@pytest.mark.parametrize("between", ["", "\n"])
def test_frames_have_no_numbers(monkeypatch: pytest.MonkeyPatch, between: str) -> None:
    """A picture before and one after a video are the pictures 0 and 1."""
    asked = model(between_frames=between)
    parts = [
        {"type": "image", "image": noise(50, 50)},
        {"type": "video", "video": frames(3)},
        {"type": "image", "image": noise(60, 60)},
        "What?",
    ]
    shown = prompt_of(asked, monkeypatch, [{"role": "user", "content": parts}])
    image = "<image_id>{}</image_id><image>[{}]</image>"
    video = between.join(f"<image>[{i}]</image>" for i in (1, 2, 3))
    assert shown == f"{image.format(0, 0)}\n{video}\n{image.format(1, 4)}\nWhat?"


def test_places_of_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos follow the pictures, before the question or at their marks."""
    asked, video = model(), frames(2)
    shown = prompt_of(asked, monkeypatch, "What?", [noise(50, 50)], videos=[video])
    picture, both = (
        "<image_id>0</image_id><image>[{}]</image>",
        "<image>[1]</image><image>[2]</image>",
    )
    assert shown == f"{picture.format(0)}\n{both}\nWhat?"
    marked = prompt_of(asked, monkeypatch, f"In {MARK}, what?", videos=[video])
    assert marked == "In <image>[0]</image><image>[1]</image>, what?"


def test_times_are_those_of_the_video() -> None:
    asked = model()
    answer = asked.chat("What?", [noise(50, 50)], videos=[frames(4)])
    assert answer.timings.image_tokens == (64, 4 * 64)
    assert answer.timings.video_frames == (0, 4)
    assert len(answer.timings.encode_ms) == 2 and all(ms > 0 for ms in answer.timings.encode_ms)
    assert asked.session.images == 5


def test_groups_take_the_tokens_of_one_picture() -> None:
    asked = model(PACKED)
    answer = asked.chat("What?", videos=[frames(7)], packing=3)
    assert answer.timings.image_tokens == (3 * ROWS,) and asked.session.images == 3
    assert answer.timings.video_frames == (7,)
    again = asked.chat("And now?", videos=[frames(7)], packing=3)
    assert again.tokens and asked.session.images == 3, "the same frames at the same times"
    asked.chat("And now?", videos=[frames(7)], packing=3, fps=1)
    assert asked.session.images == 5, "the same frames at other times; the last is alone"


def test_prepared_videos_are_shown_again(tmp_path: Path) -> None:
    from PIL import Image

    for number, frame in enumerate(frames(3)):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    asked = model()
    prepared = asked.prepare_video(tmp_path, options=VideoOptions(frames=2))
    assert len(prepared.frames) == 2
    (tmp_path / "0.png").unlink()
    first = asked.chat("What?", videos=[prepared])
    second = asked.chat(f"{MARK}\nWhat?", [prepared])
    assert first.tokens == second.tokens and asked.session.images == 2


def test_a_video_that_cannot_fit_is_refused_before_it_is_encoded() -> None:
    asked = model(context=700)
    with pytest.raises(ContextFullError) as caught:
        asked.chat("What?", [noise(50, 50)], videos=[frames(20)])
    text = str(caught.value)
    assert "tokens (1344 of them for 1 picture and 20 frames of 1 video)" in text
    most = int(text.split("lower --frames (to ")[1].split(")")[0])
    assert asked.session.images == 0 and asked.session.prefilled == []
    options = {"videos": [frames(20)], "max_tokens": 1}
    assert asked.chat("What?", [noise(50, 50)], frames=most, **options).tokens
    with pytest.raises(ContextFullError, match=r"lower --frames \(to \d\)"):
        asked.chat("What?", [noise(50, 50)], frames=most + 3, **options)
    with pytest.raises(ContextFullError, match="20 frames of 1 video.*lower --frames"):
        asked.prepare_video(frames(20))


def test_groups_that_cannot_fit() -> None:
    asked = model(PACKED, context=400)
    with pytest.raises(ContextFullError, match=r"30 frames of 1 video\)") as caught:
        asked.chat("What?", videos=[frames(30)], packing=3)
    most = int(str(caught.value).split("lower --frames (to ")[1].split(")")[0])
    assert most % 3 == 0 and 3 < most < 30
    assert asked.chat("What?", videos=[frames(30)], packing=3, frames=most, max_tokens=1).tokens


def test_no_number_of_frames_helps() -> None:
    with pytest.raises(ContextFullError, match="shorten the prompt"):
        model(context=60).chat("What?", videos=[frames(2)])


@pytest.mark.parametrize("options", [{}, {"frames": 3}, {"fps": 2.0}, {"packing": 2}])
def test_models_without_videos(options: dict[str, Any]) -> None:
    asked = model()
    asked = Model(asked.session, TOKENIZER, MODEL)
    with pytest.raises(UsageError, match=r"takes no videos; show single frames with --image"):
        asked.chat("What?", videos=[frames(2)], **options)
    if options:
        with pytest.raises(UsageError, match="takes no videos"):
            asked.chat("What?", **options)
    with pytest.raises(UsageError, match="takes no videos"):
        asked.check(video=VideoOptions())


@pytest.mark.parametrize(
    ("videos", "named"),
    [("a.gif", "videos must be a list of videos, got str"), ([7], "expected the path of a file")],
)
def test_bad_videos(videos: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        model().chat("What?", videos=videos)


def test_options_out_of_range() -> None:
    with pytest.raises(UsageError, match="frames=0"):
        model().chat("What?", videos=[frames(2)], frames=0)
