"""The demo model compiled for each x86 preset that this machine can run, against the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch_minicpmv as reference
from PIL import Image

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import handglass
from handglass.compiler.build import compile_model
from handglass.runtime.system.hardware import read_machine
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKPOINT = EXAMPLES / "demo-checkpoint"
PICTURES = sorted((EXAMPLES / "pictures").glob("*.png"))
QUESTIONS: tuple[tuple[str, list[Path]], ...] = (
    ("What is this picture?", PICTURES[:1]),
    ("How many shapes are there?", PICTURES[1:2]),
    ("Which picture has more shapes?", PICTURES[1:3]),
)


@pytest.fixture(scope="module")
def expected() -> list[tuple[int, ...]]:
    """The tokens of each answer, including the end token, in float32 with torch."""
    config, weights = reference.load(CHECKPOINT)
    found = []
    for question, files in QUESTIONS:
        pictures = [Image.open(file) for file in files]
        seen = [reference.encode_image(weights, config, picture) for picture in pictures]
        ids = reference.prompt_ids(CHECKPOINT, config, question, len(seen))
        tokens = reference.greedy(weights, config, ids, seen, 40)
        found.append(tuple(tokens[: tokens.index(config["eos_token_id"])]))
    return found


@pytest.mark.parametrize(
    "name",
    [
        *(
            pytest.param(name, marks=pytest.mark.large)
            for name in ("x86-64-v3", "x86-64-v4", "x86-64-amx")
        ),
        "host",
    ],
)
def test_answers_are_those_of_the_reference(
    name: str,
    expected: list[tuple[int, ...]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    evidence: Callable[..., None],
) -> None:
    """w4a8, the default, rounds the weights, but the answers of a trained model stay the same."""
    target = find_target(name)
    if missing := target.missing_on(read_machine().flags):
        pytest.skip(f"this CPU lacks {', '.join(missing)}")
    if name == "host":
        bundle = request.getfixturevalue("demo_bundle")
    else:
        bundle = tmp_path / "bundle"
        compile_model(CHECKPOINT, bundle, target=name)
    model = handglass.load(bundle)
    for (question, files), tokens in zip(QUESTIONS, expected, strict=True):
        answer = model.chat(question, [Image.open(file) for file in files], max_tokens=40)
        assert answer.finish_reason == "stop", question
        assert answer.tokens == tokens, question
    evidence(target.records_key, "answers of the demo model in w4a8")
