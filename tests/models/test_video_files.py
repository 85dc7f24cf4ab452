"""A video file by command, on releases that take videos: the answer to its frames."""

from pathlib import Path
from typing import Any

import pytest
from greedy import QUESTION
from shared_releases import compiled
from test_video_container import decoded, write
from thinned import only

import handglass as library
from handglass.runtime.prompt.video.sampling import VideoOptions, open_sampling

pytestmark = [pytest.mark.compiler, pytest.mark.slow]
pytest.importorskip("av")


@pytest.mark.parametrize("version", only(["4.5", "4.6"], ["2.6", "4.5", "4.6"]))
def test_run(
    version: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, handglass: Any
) -> None:
    """At the rate that the model shows by itself, frames of a list have the same times."""
    bundle = compiled(tmp_path_factory, version) / "bundle"
    model: Any = library.load(bundle)
    rate = open_sampling(model.manifest.vision, VideoOptions()).fps
    path = write(tmp_path / "a.mp4", 7, rate)
    flags = ("--temp", 0, "-n", 8)
    asked = handglass("run", "-m", bundle, "--video", path, "-p", QUESTION, *flags, "--json")
    frames = decoded(path)
    expected = model.chat(QUESTION, videos=[frames], temp=0, max_tokens=8)
    assert asked.json["tokens"] == list(expected.tokens) and asked.json["text"] == expected.text
    assert asked.json["timings"]["video_frames"] == [7]
    one = handglass("run", "-m", bundle, "--video", path, "-p", QUESTION, *flags, "--frames", 1)
    assert one.err.startswith("video 1: ") and " ms (1 frame, " in one.err
