"""MiniCPM-V 4.6 on a Vulkan device: the tokens of transformers, and the logits of the CPU.

Part of `make test-vulkan`; skipped where there is no device.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from greedy import QUESTION, pictures
from released46 import Reference, write_checkpoint
from vulkan_running import needs_vulkan

import handglass
from handglass.compiler.build import compile_model
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.engine.session import Session
from handglass.runtime.execution.known_answers import CASES, read_cases

pytestmark = [pytest.mark.vulkan, pytest.mark.compiler, pytest.mark.slow, needs_vulkan]

LENGTHS = (1, 2, 9, 64, 333)
TOLERANCE = {"f32": 2e-5, "f16": 1e-2, "w4": 1e-2}
"""Tolerance relative to the largest logit, against the same weights on the CPU."""
PATCHES = {"f32": 1e-4, "f16": 1e-2, "w4": 1e-2}
"""The same for the rows of a picture."""
WATCHED = """
import sys
from PIL import Image
import handglass
model = handglass.load(sys.argv[1])
answer = model.chat("What is this picture?", [Image.new("RGB", (700, 500), "red")], max_tokens=4)
assert answer.tokens and answer.timings.encode_ms
"""


class Compiled:
    """Bundles of one checkpoint, and its reference."""

    def __init__(self, folder: Path, downsample: str = "16x") -> None:
        self.folder = folder
        self.reference = Reference(write_checkpoint(folder / "checkpoint", downsample))
        self.bundle = cache(self._bundle)

    def _bundle(self, target: str, scheme: str) -> Path:
        output = self.folder / f"{target}-{scheme}"
        options: dict[str, Any] = {"quantization": scheme, "context": 1024}
        if scheme.startswith("w4"):
            options["vision_quantization"] = "w8a8" if scheme == "w4a8" else "f16"
        compile_model(self.folder / "checkpoint", output, target=target, **options)
        return output

    def sessions(self, scheme: str) -> tuple[Session, Session]:
        """On the CPU and on the GPU."""
        here, there = (Session(Bundle.open(self.bundle(t, scheme))) for t in ("host", "vulkan"))
        return here, there


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled(tmp_path_factory.mktemp("minicpmv46"))


@pytest.fixture(scope="module")
def model(compiled: Compiled) -> Any:
    return handglass.load(compiled.bundle("vulkan", "f32"))


@pytest.mark.parametrize("name", ["none", "small", "whole", "split", "two"])
def test_answer(compiled: Compiled, model: Any, name: str) -> None:
    """32 greedy tokens are those of transformers."""
    compiled.reference.check(model, name, 32)


def test_a_row_for_four_patches(tmp_path: Path) -> None:
    """Without the window merger."""
    compiled = Compiled(tmp_path, "4x")
    compiled.reference.check(handglass.load(compiled.bundle("vulkan", "f32")), "whole", 32)


@pytest.mark.parametrize("scheme", TOLERANCE)
def test_logits_at_every_length(compiled: Compiled, scheme: str) -> None:
    """A prefill, a second one, then a decode step."""
    here, there = compiled.sessions(scheme)
    ids = np.random.default_rng(5).integers(0, here.vocab_size, 340).tolist()
    x = here.embed(ids)
    for n in LENGTHS:
        for session in (here, there):
            session.restore_state(None)
        steps: tuple[Callable[[Session], np.ndarray], ...] = (
            lambda s: s.prefill(x[:n], 0),  # noqa: B023
            lambda s: s.prefill(x[n : n + 7], n),  # noqa: B023
            lambda s: s.decode(11, n + 7),  # noqa: B023
        )
        for step in steps:
            expected, found = np.array(step(here)), np.array(step(there))
            error = np.abs(found - expected).max() / np.abs(expected).max()
            assert error < TOLERANCE[scheme], (n, error)


@pytest.mark.parametrize("scheme", PATCHES)
@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (8, 12), (20, 28)])
def test_rows_of_a_picture(compiled: Compiled, scheme: str, rows: int, columns: int) -> None:
    here, there = compiled.sessions(scheme)
    n = rows * columns
    strip = np.random.default_rng(n).normal(0, 0.5, (3, 14, 14 * n)).astype(np.float32)
    ids = np.arange(n, dtype=np.int32) % 4900
    grid = np.stack(np.divmod(np.arange(n), columns), axis=1).astype(np.int32)
    expected, found = (s.encode_image(strip, ids, grid) for s in (here, there))
    assert found.shape == (n // 16, 64)
    assert np.abs(found - expected).max() < PATCHES[scheme] * np.abs(expected).max()


def test_integers_round_as_on_the_cpu(compiled: Compiled) -> None:
    """Both sides round rows and may differ by one quantization step, so compare in dB."""
    here, there = compiled.sessions("w4a8")
    x = here.embed(np.random.default_rng(6).integers(0, here.vocab_size, 64).tolist())
    for step in (lambda s: s.prefill(x, 0), lambda s: s.decode(11, 64)):
        expected, found = np.array(step(here)), np.array(step(there))
        noise = np.square(found - expected).sum() / np.square(expected).sum()
        assert -10 * np.log10(noise) > 25


def test_the_state_is_copied_from_and_to_the_device(compiled: Compiled) -> None:
    session = Session(Bundle.open(compiled.bundle("vulkan", "f32")))
    x = session.embed([5, 6, 7, 8, 9])
    session.prefill(x, 0)
    kept = session.save_state()
    before = [array.copy() for array in kept]
    assert len(kept) == 2 * 3 and all(array.any() for array in kept)
    first = session.prefill(x[::-1], 5)
    assert all(map(np.array_equal, kept, before)), "later steps do not change the copy"
    assert not any(map(np.array_equal, kept, session.save_state()))
    session.restore_state(kept)
    assert np.array_equal(session.prefill(x[::-1], 5), first)
    session.restore_state(None)
    assert not any(array.any() for array in session.save_state())


def test_a_second_turn_continues_the_first(model: Any, compiled: Compiled) -> None:
    """The tokens of a conversation whose beginning is reused are those of a fresh run."""
    shown = pictures("whole")
    first = [{"role": "user", "content": [*shown, QUESTION]}]
    answer = model.chat(first, temp=0, max_tokens=12)
    turns = [
        *first,
        {"role": "assistant", "content": answer.text},
        {"role": "user", "content": "And what else?"},
    ]
    reused = model.chat(turns, temp=0, max_tokens=24)
    fresh = handglass.load(compiled.bundle("vulkan", "f32")).chat(turns, temp=0, max_tokens=24)
    assert reused.timings.reused_tokens > 0 and fresh.timings.reused_tokens == 0
    assert reused.tokens == fresh.tokens
    again = model.chat(first, temp=0, max_tokens=12)  # back to a copy of the state
    assert again.timings.reused_tokens > 0 and again.tokens == answer.tokens


@pytest.mark.parametrize("scheme", ["f32", "w4a8"])
def test_known_answers_of_every_family(compiled: Compiled, scheme: str) -> None:
    """The self-test of the bundle, which `load` has run, contains each of the new kernels."""
    cases = read_cases(compiled.bundle("vulkan", scheme) / CASES)
    own = {case.name.rstrip("0123456789"): case for case in cases}
    assert {"delta_rule", "causal_conv", "window_attention"} <= set(own)
    assert {"head_norm", "gated_norm", "unit_heads"} & set(own)
    assert len(own["delta_rule"].answers) == 2, "the state and the result"


@pytest.mark.parametrize("scheme", ["f32", "w4a8"])
def test_the_validation_layer_is_silent(compiled: Compiled, scheme: str) -> None:
    layer = {"VK_INSTANCE_LAYERS": "VK_LAYER_KHRONOS_validation", "HANDGLASS_TRUST_DRIVER": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(compiled.bundle("vulkan", scheme))],
        env={**os.environ, **layer, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
