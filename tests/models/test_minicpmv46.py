"""MiniCPM-V 4.6 compiled from its folder, against the classes of transformers that wrote it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from released46 import Reference, write_checkpoint

import handglass
from handglass.compiler.build import compile_model

QUESTION = "What is this picture?"
SIZES = {
    "none": [],
    "whole": [(300, 200)],
    "small": [(30, 50)],
    "sliced": [(700, 500)],
    "wide": [(1600, 120)],
    "two": [(460, 700), (200, 200)],
}


def pictures(name: str) -> list[Image.Image]:
    rng = np.random.default_rng(len(name))
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        for width, height in SIZES[name]
    ]


class Both:
    """A compiled model and the reference."""

    def __init__(self, folder: Path, downsample: str) -> None:
        checkpoint, bundle = folder / "checkpoint", folder / "bundle"
        self.reference = Reference(write_checkpoint(checkpoint, downsample))
        compile_model(checkpoint, bundle, quantization="f32", context=2048)
        self.model = handglass.load(bundle)


@pytest.fixture(scope="module", params=["16x", "4x"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("minicpmv46"), request.param)


@pytest.mark.parametrize("name", SIZES)
def test_answer(both: Both, name: str) -> None:
    """Token ids of the prompt, logits after it, and 64 greedy tokens."""
    shown = pictures(name)
    asked = both.reference.ask(QUESTION, shown)
    content = [*shown, QUESTION] if shown else QUESTION
    answer = both.model.chat([{"role": "user", "content": content}], temp=0, max_tokens=64)
    tokens = both.reference.before_pads(answer.tokens)
    truth = both.reference.logits(asked, tokens)
    assert len(answer.tokens) == 64 or answer.finish_reason == "stop"
    assert tokens == [int(row.argmax()) for row in truth[: len(tokens)]]


def frames(count: int, width: int, height: int) -> list[Image.Image]:
    rng = np.random.default_rng(count)
    arrays = rng.integers(0, 256, (count, height, width, 3), np.uint8)
    return [Image.fromarray(array) for array in arrays]


def test_video(both: Both) -> None:
    """All frames of a list, and some of them: prompt, logits and 64 greedy tokens."""
    shown = frames(7, 500, 300)
    for most, chosen in ((None, shown), (2, [shown[0], shown[-1]])):
        asked = both.reference.ask_about_video(QUESTION, chosen)
        answer = both.model.chat(QUESTION, videos=[shown], frames=most, temp=0, max_tokens=64)
        tokens = both.reference.before_pads(answer.tokens)
        truth = both.reference.logits(asked, tokens)
        assert len(answer.tokens) == 64 or answer.finish_reason == "stop"
        assert tokens == [int(row.argmax()) for row in truth[: len(tokens)]]
        rows = int((np.array(asked.ids) == both.reference.model.config.image_token_id).sum())
        assert answer.timings.image_tokens == (rows,)
