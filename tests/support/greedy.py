"""Questions about random pictures, and greedy answers against the logits of a reference."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image
from tolerance import FLOAT32

QUESTION = "What is this picture?"
SIZES: dict[str, list[tuple[int, int]]] = {
    "none": [],
    "whole": [(300, 200)],
    "small": [(30, 50)],
    "split": [(700, 500)],
    "sliced": [(900, 500)],
    "wide": [(1600, 120)],
    "two": [(460, 700), (200, 200)],
}
"""Width and height of the pictures of a question."""


def pictures(name: str) -> list[Image.Image]:
    rng = np.random.default_rng(len(name))
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        for width, height in SIZES[name]
    ]


def ask(model: Any, shown: list[Image.Image], max_tokens: int) -> tuple[Any, np.ndarray]:
    """The greedy answer to QUESTION, and its logits."""
    content = [*shown, QUESTION] if shown else QUESTION
    messages = [{"role": "user", "content": content}]
    return answered(model, messages, temp=0, repeat_penalty=1, max_tokens=max_tokens)


def answered(model: Any, *arguments: Any, **options: Any) -> tuple[Any, np.ndarray]:
    """What `chat` answers, and the logits of the session after the prompt and after each token."""
    session = model.session
    rows: dict[str, list[np.ndarray]] = {"prefill": [], "decode": []}

    def kept(name: str) -> Callable[..., np.ndarray]:
        function = getattr(session, name)

        def call(*given: Any) -> np.ndarray:
            logits: np.ndarray = function(*given).copy()
            rows[name].append(logits)
            return logits

        return call

    with patch.multiple(session, prefill=kept("prefill"), decode=kept("decode")):
        answer = model.chat(*arguments, **options)
    return answer, np.stack([rows["prefill"][-1], *rows["decode"]])


def check_greedy(
    answer: Any,
    prompt_tokens: int,
    truth: np.ndarray,
    max_tokens: int = 64,
    logits: np.ndarray | None = None,
) -> None:
    """`truth` (n, vocab_size): the logits of the reference after the prompt and after each token;
    `logits`: those of the model, if they were kept.

    It may end before the answer, if a token means something else to the reference.
    """
    assert len(answer.tokens) == max_tokens or answer.finish_reason == "stop"
    n = min(len(truth), len(answer.tokens))
    assert n and list(answer.tokens[:n]) == truth[:n].argmax(-1).tolist()
    if logits is not None:
        n = min(n, len(logits))
        FLOAT32.check(logits[:n], truth[:n])
    assert answer.timings.prefill_tokens + answer.timings.reused_tokens == prompt_tokens
