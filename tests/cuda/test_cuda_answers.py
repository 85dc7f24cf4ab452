"""A compiled model answers on the emulated CUDA device as on the CPU, with one launch per token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles a model")
from emulated_driver import counters
from shared import made_once

from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.devices.cuda import cuda_statistics
from handglass.runtime.engine.session import Session
from handglass.targets.codegen.cuda.nvrtc import Nvrtc

pytestmark = [
    *(pytest.mark.compiler, pytest.mark.slow, pytest.mark.cuda),
    pytest.mark.usefixtures("emulated"),
]

PROMPT, TOKENS, SETTLED = [5, 9, 2, 31, 7], 12, 6
"""Token ids, tokens after them, and how many until each tensor has its place."""


@pytest.fixture(scope="module")
def cuda_bundle(
    small_checkpoint: Path, any_nvrtc: Nvrtc, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    from handglass.cli.main import execute

    def make(folder: Path) -> None:
        flags = ["--target", "rtx-30", "--quantization", "f32", "-c", "128"]
        output = str(folder / "bundle")
        assert execute(["compile", "-m", str(small_checkpoint), "-o", output, *flags]) == 0

    return made_once(tmp_path_factory, "compiled-cuda", make) / "bundle"


def greedy(session: Session) -> tuple[list[int], np.ndarray, list[dict[str, int]]]:
    """The tokens after the prompt, the logits of every step, and what the driver counted before."""
    logits = [session.prefill(session.embed(PROMPT), 0).copy()]
    tokens: list[int] = []
    counts = []
    for n in range(TOKENS):
        counts.append(counters())
        tokens.append(int(logits[-1].argmax()))
        logits.append(session.decode(tokens[-1], len(PROMPT) + n).copy())
    return tokens, np.stack(logits), [*counts, counters()]


def test_tokens_are_those_of_the_cpu(
    small_bundle: Path, cuda_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernels of the self-test, which test_cuda_session.py runs, take a minute to translate.
    monkeypatch.setenv("HANDGLASS_TRUST_DRIVER", "1")
    expected, truth, _ = greedy(Session(Bundle.open(small_bundle)))
    session = Session(Bundle.open(cuda_bundle), device="cuda:0")
    before = cuda_statistics()
    found, logits, counts = greedy(session)
    after = cuda_statistics()
    assert found == expected
    np.testing.assert_allclose(logits, truth, rtol=1e-3, atol=1e-3 * np.abs(truth).max())
    assert after["graph_launches"] - before["graph_launches"] == TOKENS - 1
    changes = {name: counts[-1][name] - counts[SETTLED][name] for name in counts[-1]}
    assert changes["node_updates"] == 0, "the position is in device memory"
    assert changes["uploads"] == 2 * (TOKENS - SETTLED), "a token and its position"
    assert after["cell_writes"] - before["cell_writes"] == TOKENS - 1
    assert after["waits"] - before["waits"] == TOKENS + 2, "one per call: embed, prefill, decode"


def test_the_command_line_says_what_is_missing(
    cuda_bundle: Path, handglass: Callable[..., Any]
) -> None:
    done = handglass("run", "-m", cuda_bundle, "--device", "cuda:7", "-p", "Hello")
    assert done.code == 4 and "no device matches cuda:7; available: cuda:0 (Emulated" in done.err
