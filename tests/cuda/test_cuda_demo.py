"""The demo model answers on the emulated CUDA device as on the CPU, token by token.

In float32 every token is the same. In other schemes both sides round rows, so the logits after each
token of the CPU's answer are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles a model")
from emulated_driver import ptx_of
from PIL import Image
from tolerance import BFLOAT16_ROWS, INT8_GROUPS, INT8_ROWS, Tolerance, weaker

import handglass
from handglass.compiler.build import compile_model
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.devices.cuda import cuda_statistics
from handglass.runtime.engine.session import Session
from handglass.runtime.prompt.preprocess import open_preprocessor
from handglass.targets.codegen.cuda import build

pytestmark = [
    *(pytest.mark.compiler, pytest.mark.slow, pytest.mark.cuda),
    pytest.mark.usefixtures("emulated", "any_nvrtc"),
]

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = sorted((EXAMPLES / "pictures").glob("*.png"))
QUESTION, TOKENS = "How many shapes are there?", 8
TOLERANCES: dict[tuple[str, str, str], Tolerance] = {
    ("rtx-30", "f16", "f16"): BFLOAT16_ROWS,  # float16 rows, which are finer
    ("rtx-30", "f16", "int8"): BFLOAT16_ROWS,
    ("rtx-30", "w4", "f16"): BFLOAT16_ROWS,  # many rows in float16
    ("rtx-30", "w4a8", "f16"): weaker(INT8_GROUPS, INT8_ROWS),
    ("rtx-20", "w4a8", "f16"): weaker(INT8_GROUPS, INT8_ROWS),  # no tensor cores; PTX of "cuda"
}
"""By target, scheme and type of the cache."""
MORE = {("rtx-30", "f16", "int8"), ("rtx-30", "w4", "f16"), ("rtx-20", "w4a8", "f16")}
"""What `make test-cuda-large` adds: most of the time is the translation of a model's kernels."""
BUNDLES = [pytest.param(*b, marks=pytest.mark.large if b in MORE else ()) for b in TOLERANCES]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    folder = tmp_path_factory.mktemp("bundles")

    @cache
    def compiled(target: str, scheme: str, kept: str = "") -> Path:
        output = folder / f"{target}-{scheme}-{kept}"
        checkpoint, kind = EXAMPLES / "demo-checkpoint", kept or None
        compile_model(checkpoint, output, target=target, quantization=scheme, kv_cache=kind)
        return output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "images_of", ptx_of)
        yield compiled


@pytest.fixture(autouse=True)
def no_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known answers are tested in test_cuda_session.py; here they would run every kernel twice."""
    monkeypatch.setenv("HANDGLASS_TRUST_DRIVER", "1")


def test_float32_gives_the_same_tokens(bundle: Callable[..., Path]) -> None:
    answers = []
    for target, device in (("host", None), ("rtx-30", "cuda:0")):
        model = handglass.load(bundle(target, "f32"), device=device)
        answers.append(model.chat(QUESTION, [Image.open(PICTURES[1])], max_tokens=TOKENS).tokens)
    assert answers[0] == answers[1] and answers[0]


@pytest.mark.parametrize(("target", "scheme", "kept"), BUNDLES)
def test_logits_after_every_token(
    bundle: Callable[..., Path], target: str, scheme: str, kept: str
) -> None:
    here = Session(Bundle.open(bundle("host", scheme, kept)))
    there = Session(Bundle.open(bundle(target, scheme, kept)), device="cuda:0")
    tokens, truth = logits_of(here, [])
    launches = cuda_statistics()["graph_launches"]
    _, found = logits_of(there, tokens)
    TOLERANCES[target, scheme, kept].check(found, truth)
    assert cuda_statistics()["graph_launches"] - launches == TOKENS - 1, "the first one is recorded"


def logits_of(session: Session, tokens: list[int]) -> tuple[list[int], np.ndarray]:
    """The logits after a picture, a few words, and each token: those given, or the likeliest."""
    (tile, *_) = open_preprocessor(session.manifest)(np.asarray(Image.open(PICTURES[1])))
    rows = session.encode_image(*tile.arrays)
    x = np.concatenate([rows, session.embed([5, 9, 2, 31, 7])])
    logits, taken = [session.prefill(x, 0).copy()], list(tokens)
    for n in range(TOKENS):
        if not tokens:
            taken.append(int(logits[-1].argmax()))
        logits.append(session.decode(taken[n], len(x) + n).copy())
    return taken, np.stack(logits)
