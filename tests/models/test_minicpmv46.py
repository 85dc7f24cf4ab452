"""MiniCPM-V 4.6 compiled from its folder, against the classes of transformers that wrote it."""

from typing import Any

import numpy as np
import pytest
from greedy import QUESTION, check_greedy
from PIL import Image
from released46 import Reference
from shared_releases import loaded

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


@pytest.fixture(scope="module", params=["4.6", pytest.param("4.6-4x", marks=pytest.mark.large)])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return loaded(tmp_path_factory, request.param)


@pytest.mark.parametrize("name", ["none", "whole", "small", "split", "wide", "two"])
def test_answer(both: Any, name: str) -> None:
    """Token ids of the prompt, logits after it, and 64 greedy tokens."""
    reference, model = both
    reference.check(model, name)


def frames(count: int, width: int, height: int) -> list[Image.Image]:
    rng = np.random.default_rng(count)
    arrays = rng.integers(0, 256, (count, height, width, 3), np.uint8)
    return [Image.fromarray(array) for array in arrays]


def test_video(both: tuple[Reference, Any]) -> None:
    """All frames of a list, and some of them: prompt, logits and 64 greedy tokens."""
    reference, model = both
    shown = frames(7, 500, 300)
    for most, chosen in ((None, shown), (2, [shown[0], shown[-1]])):
        asked = reference.ask_about_video(QUESTION, chosen)
        answer = model.chat(QUESTION, videos=[shown], frames=most, temp=0, max_tokens=64)
        truth = reference.logits(asked, reference.before_pads(answer.tokens))
        check_greedy(answer, len(asked.ids), truth)
        rows = int((np.array(asked.ids) == reference.model.config.image_token_id).sum())
        assert answer.timings.image_tokens == (rows,)
