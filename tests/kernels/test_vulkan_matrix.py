"""Matmuls with cooperative matrices: loops on any machine, results on devices with matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from thinned import thinned

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from PIL import Image
from test_vulkan_matmul import check, multiplied, normal
from vulkan_products import Product
from vulkan_running import needs_vulkan, shaders
from vulkan_targets import COOPMAT

import handglass
from handglass.compiler.build import compile_model
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.devices.vulkan import vulkan_devices
from handglass.runtime.engine.session import Session

pytestmark = pytest.mark.compiler

TARGET = {**COOPMAT, "mattr": ["coopmat-8x8x8", "subgroup-8"]}
EXAMPLES = Path(__file__).parents[2] / "examples"
SCHEMES = ("f16", "w4", "w4a8", "w8a8")
MULTIPLY = 4459
"""OpCooperativeMatrixMulAddKHR"""


def device_has_matrices() -> bool:
    devices = vulkan_devices()
    return bool(devices and devices[0].abilities.get("supports_cooperative_matrix"))


@pytest.mark.parametrize(("scheme", "size"), thinned(2, SCHEMES, [(37, 50), (64, 64)]))
def test_many_rows_of_narrow_weights_are_multiplied_as_matrices(
    scheme: str, size: tuple[int, int]
) -> None:
    product = Product(scheme, *size, TARGET)
    (shader,) = shaders(product.scheduled(product.function(bias=True)), TARGET)
    assert MULTIPLY in [word & 0xFFFF for word in shader.words]


@pytest.mark.parametrize(("scheme", "m"), [("f32", None), ("bf16", None), ("f16", 1), ("w4a8", 1)])
def test_one_row_and_wide_weights_are_not(scheme: str, m: int | None) -> None:
    product = Product(scheme, 32, 32, TARGET)
    (shader,) = shaders(product.scheduled(product.function(m)), TARGET)
    assert 6022 not in shader.words[:40]  # CooperativeMatrixKHR


@needs_vulkan
@pytest.mark.parametrize("scheme", SCHEMES)
def test_product(scheme: str) -> None:
    if not device_has_matrices():
        pytest.skip("the device has no cooperative matrices")
    product = Product(scheme, 37, 50, TARGET)
    func, weight = product.scheduled(product.function(bias=True)), normal(37, 50)
    for m in (7, 64, 333):
        x, bias, residual = normal(m, 50), normal(37), normal(m, 37)
        y = multiplied(product, func, x, weight, bias, residual)
        check(y, np.tanh(product.expected(x, weight) + bias) + residual)


@needs_vulkan
@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "vision"), [("f16", "f16"), ("w4a8", "w8a8")])
def test_model(tmp_path: Path, monkeypatch: Any, scheme: str, vision: str) -> None:
    """The demo model for this device as its driver reports it, against a CPU."""
    if not device_has_matrices():
        pytest.skip("the device has no cooperative matrices")
    monkeypatch.setenv(
        "HANDGLASS_TRUST_DRIVER", "1"
    )  # the newer driver is set for this process only
    for target in ("host", "vulkan-host"):
        options: dict[str, Any] = {"quantization": scheme, "vision_quantization": vision}
        compile_model(EXAMPLES / "demo-checkpoint", tmp_path / target, target=target, **options)
    bundles = [Bundle.open(tmp_path / target) for target in ("host", "vulkan-host")]
    assert bundles[1].manifest.target.abilities["supports_cooperative_matrix"]
    here, there = map(Session, bundles)
    x = here.embed(np.random.default_rng(6).integers(0, here.vocab_size, 64).tolist())
    expected, found = here.prefill(x, 0), there.prefill(x, 0)
    assert -10 * np.log10(np.square(found - expected).sum() / np.square(expected).sum()) > 30
    with Image.open(next((EXAMPLES / "pictures").glob("*.png"))) as picture:
        asked = [handglass.load(b.path).chat("What is this picture?", [picture]) for b in bundles]
    assert asked[0].tokens == asked[1].tokens != ()
