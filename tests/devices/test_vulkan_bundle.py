"""The demo model on a Vulkan device: the same tokens as on the CPU, at every length.

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

from PIL import Image
from vulkan_running import needs_vulkan

import handglass
from handglass.compiler.build import compile_model
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.devices.vulkan import vulkan_devices
from handglass.runtime.engine.session import Session

pytestmark = [pytest.mark.vulkan, pytest.mark.compiler, pytest.mark.slow, needs_vulkan]

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = sorted((EXAMPLES / "pictures").glob("*.png"))
QUESTIONS: tuple[tuple[str, list[Path]], ...] = (
    ("What is this picture?", PICTURES[:1]),
    ("How many shapes are there?", PICTURES[1:2]),
    ("Which picture has more shapes?", PICTURES[1:3]),
    ("这张图里有什么？", PICTURES[2:3]),
    ("What can you do?", []),
)
LENGTHS = (1, 7, 64, 333)
TOLERANCE = {"f32": 2e-5, "f16": 5e-3, "w4": 5e-3}
"""Tolerance relative to the largest logit, against the same weights on the CPU."""
WATCHED = """
import sys
from pathlib import Path
from PIL import Image
import handglass
picture = Image.open(sys.argv[2])
answer = handglass.load(sys.argv[1]).chat("What is this picture?", [picture], max_tokens=8)
assert answer.tokens and answer.timings.encode_ms
assert "libVkLayer_khronos_validation" in Path("/proc/self/maps").read_text(), "no layer"
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    folder = tmp_path_factory.mktemp("bundles")

    @cache
    def compiled(target: str, scheme: str) -> Path:
        output = folder / f"{target}-{scheme}"
        options: dict[str, Any] = {"quantization": scheme, "vision_quantization": scheme}
        if scheme.startswith("w4"):
            options["vision_quantization"] = "w8a8" if scheme == "w4a8" else "f16"
        compile_model(EXAMPLES / "demo-checkpoint", output, target=target, **options)
        return output

    return compiled


def answers(path: Path) -> list[tuple[int, ...]]:
    model = handglass.load(path)
    found = []
    for question, files in QUESTIONS:
        pictures = [Image.open(file) for file in files]
        found.append(model.chat(question, pictures, max_tokens=40).tokens)
    return found


def test_float32_gives_the_same_tokens(
    bundle: Callable[[str, str], Path], evidence: Callable[..., None]
) -> None:
    assert answers(bundle("vulkan", "f32")) == answers(bundle("host", "f32"))
    gpu = vulkan_devices()[0]
    evidence("vulkan", "answers of the demo model in f32", on=f"{gpu.name}, {gpu.driver}")


@pytest.mark.parametrize("scheme", TOLERANCE)
def test_logits_at_every_length(bundle: Callable[[str, str], Path], scheme: str) -> None:
    """A prefill, then one decode step."""
    here, there = (Session(Bundle.open(bundle(t, scheme))) for t in ("host", "vulkan"))
    rng = np.random.default_rng(5)
    for length in LENGTHS:
        ids = rng.integers(0, here.vocab_size, length).tolist()
        x = here.embed(ids)
        np.testing.assert_allclose(there.embed(ids), x, atol=TOLERANCE[scheme])
        for call in (lambda s: s.prefill(x, 0), lambda s: s.decode(11, length)):  # noqa: B023
            expected, found = np.array(call(here)), np.array(call(there))
            assert np.isfinite(found).all()
            error = np.abs(found - expected).max() / np.abs(expected).max()
            assert error < TOLERANCE[scheme], (length, error)


def test_integers_round_as_on_the_cpu(bundle: Callable[[str, str], Path]) -> None:
    """Both sides round rows and may differ by one quantization step, so compare in dB."""
    here, there = (Session(Bundle.open(bundle(t, "w4a8"))) for t in ("host", "vulkan"))
    x = here.embed(np.random.default_rng(6).integers(0, here.vocab_size, 64).tolist())
    expected, found = here.prefill(x, 0), there.prefill(x, 0)
    noise = np.square(found - expected).sum() / np.square(expected).sum()
    assert -10 * np.log10(noise) > 30


@pytest.mark.parametrize("scheme", ["f32", "w4a8"])
def test_the_validation_layer_is_silent(bundle: Callable[[str, str], Path], scheme: str) -> None:
    """The validation layer prints every invalid use of Vulkan to standard output."""
    layer = {"VK_INSTANCE_LAYERS": "VK_LAYER_KHRONOS_validation", "HANDGLASS_TRUST_DRIVER": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(bundle("vulkan", scheme)), str(PICTURES[0])],
        env={**os.environ, **layer, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
