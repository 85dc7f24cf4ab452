"""Videos of `handglass run`, with a fake model."""

from pathlib import Path
from typing import Any

import pytest
from cli_model import FakeModel, red_picture, replace_model
from PIL import Image


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    return replace_model(monkeypatch)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return red_picture(tmp_path)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    return tmp_path / "a.gif"


def test_videos_reach_the_model(
    handglass: Any, model: FakeModel, video: Path, picture: Path
) -> None:
    flags = ["--frames", "8", "--fps", "2.5", "--packing", "3"]
    shown = ["--video", video, "--image", picture, "--video", video.parent]
    assert handglass("run", "-m", "bundle", "-p", "Q", *shown, *flags).code == 0
    messages, images, options = model.asked[1]
    assert (messages, images) == ("Q", [picture])
    given = {"videos": [video, video.parent], "frames": 8, "fps": 2.5, "packing": 3}
    assert options == given


def test_bad_videos_end_before_anything_is_loaded(
    handglass: Any, model: FakeModel, tmp_path: Path, picture: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for path, named in (
        (tmp_path / "missing.mp4", "no such file"),
        (tmp_path / "empty", "the folder has no pictures"),
        (picture, "is a single picture; show it with --image"),
    ):
        result = handglass("run", "-m", "bundle", "-p", "Q", "--video", path)
        assert result.code == 3 and f"video {str(path)!r}: {named}" in result.err
    assert model.asked == []


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--frames", "3"), "need --video"),
        (("--fps", "0.5"), "need --video"),
        (("--frames", "0"), "'--frames'"),
        (("--fps", "-1"), "fps=-1.0 must be"),
        (("--packing", "99"), "packing=99 must be"),
    ],
)
def test_video_flags_out_of_place(
    handglass: Any, model: FakeModel, flags: tuple[str, str], named: str
) -> None:
    result = handglass("run", "-m", "bundle", "-p", "Q", *flags)
    assert result.code == 2 and named in result.err and model.asked == []


def test_models_without_videos_are_refused_before_a_question(
    handglass: Any, model: FakeModel, video: Path
) -> None:
    result = handglass("run", "-m", "bundle", "-p", "Q", "--video", video, "--fps", "99")
    assert result.code == 2 and "takes no videos" in result.err
    assert len(model.asked) == 1, "loaded alone"
