"""MiniCPM-V 4.7 compiled from its folder, against the classes of transformers that wrote it."""

from typing import Any

import numpy as np
import pytest
from greedy import QUESTION, check_greedy, pictures
from released46 import AXES, TEXT, VISION
from shared_releases import Shared, shared_release
from test_minicpmv46 import frames

import handglass
from handglass.compiler.models import find_family
from handglass.compiler.models.minicpmv47 import ARCHITECTURE
from handglass.errors import InputError

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


class Both:
    """A compiled model and the reference."""

    def __init__(self, shared: Shared) -> None:
        self.reference = shared.reference
        self.bundle = shared.bundle
        self.model = handglass.load(shared.bundle)


@pytest.fixture(
    scope="module", params=["4.7", pytest.param("4.7-4x-tied", marks=pytest.mark.large)]
)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(shared_release(tmp_path_factory, request.param))


@pytest.mark.parametrize("name", ["none", "whole", "small", "split", "wide", "two"])
def test_answer(both: Both, name: str) -> None:
    """Token ids of the prompt, logits after it, and 64 greedy tokens."""
    both.reference.check(both.model, name)


def test_video(both: Both) -> None:
    """Frames advance the canvas one after the other."""
    shown = frames(5, 200, 300)
    asked = both.reference.ask_about_video(QUESTION, shown)
    answer = both.model.chat(QUESTION, videos=[shown], temp=0, max_tokens=64)
    truth = both.reference.logits(asked, both.reference.before_pads(answer.tokens))
    check_greedy(answer, len(asked.ids), truth)


def test_positions_change_the_answer(both: Both) -> None:
    """Otherwise the tests above would prove nothing about them."""
    shown = pictures("split")
    asked = both.reference.ask(QUESTION, shown)
    truth = both.reference.logits(asked)[0]
    plain = both.reference.logits(asked, plain=True)[0]
    assert np.abs(truth - plain).max() > 1e-2 * np.abs(truth).max()


GREEDY: dict[str, Any] = {"temp": 0, "max_tokens": 12}


def turn(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def test_second_turn_equals_a_fresh_run(both: Both) -> None:
    shown = pictures("split")
    first = [turn(*shown, QUESTION)]
    said = both.model.chat(first, **GREEDY).text
    second = [*first, {"role": "assistant", "content": said}, turn(*pictures("whole"), "And this?")]
    continued = both.model.chat(second, **GREEDY)
    fresh = handglass.load(both.bundle).chat(second, **GREEDY)
    assert continued.timings.reused_tokens > 0 and fresh.timings.reused_tokens == 0
    assert continued.tokens == fresh.tokens


def test_same_overview_on_another_canvas_is_computed_again(both: Both) -> None:
    shown = pictures("split")
    model = handglass.load(both.bundle)
    sliced = model.chat([turn(*shown, QUESTION)], **GREEDY)
    whole = model.chat([turn(*shown, QUESTION)], max_slices=1, **GREEDY)
    assert whole.timings.reused_tokens < min(sliced.timings.image_tokens[0], 16)
    fresh = handglass.load(both.bundle)
    assert whole.tokens == fresh.chat([turn(*shown, QUESTION)], max_slices=1, **GREEDY).tokens


def test_session_checks_positions(both: Both) -> None:
    session = both.model.session
    x = session.embed([5, 6])
    for bad in (-1, session.context):
        with pytest.raises(InputError, match=f"positions are .*{bad}"):
            session.prefill(x, 0, np.array([[0, 0, 0], [1, 1, bad]], np.int32))
        with pytest.raises(InputError, match="positions are"):
            session.decode(3, 0, bad)
    with pytest.raises(InputError, match="positions is int32"):
        session.prefill(x, 0, np.zeros((2, 2), np.int32))


LEFT_OUT = {"rms_norm_eps": 1e-6, "linear_conv_kernel_dim": 4, "tie_word_embeddings": None}
"""Defaults of the class that wrote the checkpoint."""


def config(**text: Any) -> dict[str, Any]:
    rope = TEXT["rope_parameters"] | AXES
    return {
        "architectures": [ARCHITECTURE],
        "text_config": TEXT | LEFT_OUT | {"rope_parameters": rope} | text,
        "vision_config": VISION,
        "insert_layer_id": 1,
    }


def test_head_is_not_tied_by_default() -> None:
    given = config()
    assert not find_family(given).configure(given).language.tie_word_embeddings
    given["tie_word_embeddings"] = True
    assert find_family(given).configure(given).language.tie_word_embeddings


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("rope_parameters", AXES | {"rope_type": "default", "mrope_section": [1, 1]}, "section"),
        ("rope_parameters", AXES | {"rope_type": "default", "mrope_section": [9, 9, 9]}, "sum 16"),
        ("rope_parameters", {"rope_type": "default", "mrope_interleaved": False}, "interleaved"),
    ],
)
def test_refused(key: str, value: Any, named: str) -> None:
    given = config(**{key: value})
    with pytest.raises(InputError, match=named):
        find_family(given).configure(given)
