"""One-row matmul whose partial sums are combined by exchanges between the lanes of a subgroup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from thinned import thinned

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from operator_device import KIND, VULKAN
from test_vulkan_matmul import INTEGERS, SIZES, check, multiplied, normal
from test_vulkan_matmul_choices import local_size
from tvm.s_tir import Schedule
from vulkan_products import Product
from vulkan_running import needs_vulkan, operations, shaders
from vulkan_targets import DOT, PORTABLE, SUBGROUP

from handglass.compiler.schemes.quantize import SCHEMES
from handglass.runtime.devices.vulkan import vulkan_devices
from handglass.schedules.choices import Defaults, Noted
from handglass.targets.codegen.vulkan.enable import enable_compiler
from handglass.targets.codegen.vulkan.opcodes import Op

pytestmark = pytest.mark.compiler


class Given(Defaults):
    """Given values for some choices, if they are offered; defaults for all others."""

    def __init__(self, **values: int) -> None:
        self.values = values

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int) -> int:
        given = self.values.get(name, default)
        return super().pick(sch, name, options, given if given >= min(options) else default)


def target(size: int, base: dict[str, Any] = SUBGROUP) -> dict[str, Any]:
    return {**base, "mattr": [f"subgroup-{size}"]}


def device_size() -> int:
    """Threads of a subgroup; warps of NVIDIA GPUs have 32."""
    if KIND != VULKAN:
        return 32
    return int(vulkan_devices()[0].abilities["subgroup_size"])


@pytest.fixture(autouse=True)
def our_pipeline() -> None:
    """TVM's default pipeline lowers only one cross-thread sum per output location."""
    enable_compiler()


def emitted(scheme: str, of: dict[str, Any], **choices: int) -> Any:
    product = Product(scheme, 128, 2048, of)
    (shader,) = shaders(product.scheduled(product.function(1), Given(**choices)), of)
    return shader


def exchanges(shader: Any) -> int:
    return operations(shader.words).count(Op.GroupNonUniformShuffleXor)


ROUNDS = {16: 2, 32: 3, 64: 4, 128: 4}
"""Exchanges of partial sums, by the size of a subgroup."""


@pytest.mark.parametrize(("scheme", "size"), thinned(2, ["f32", "w4", "w4a8", "w8a8"], ROUNDS))
def test_as_many_parts_meet_in_a_subgroup_as_fit(scheme: str, size: int) -> None:
    shader = emitted(scheme, target(size))
    assert exchanges(shader) == 4 * ROUNDS[size], "of each number of a quad"
    said = f"handglass.subgroup >= {4 << ROUNDS[size]}\0".encode()
    assert said in np.asarray(shader.words, "<u4").tobytes()
    assert local_size(shader.words) == (128, 1, 1)


@pytest.mark.parametrize("of", [target(8), target(4), target(32, PORTABLE), SUBGROUP], ids=str)
def test_through_memory_where_subgroups_are_narrow_or_not_known(of: dict[str, Any]) -> None:
    shader = emitted("w4a8", of)
    assert exchanges(shader) == 0
    assert b"handglass.subgroup" not in np.asarray(shader.words, "<u4").tobytes()


def test_it_is_a_choice() -> None:
    product = Product("w4a8", 128, 2048, target(32))
    noted = Noted()
    product.scheduled(product.function(1), noted)
    assert noted.values["meeting"] == 8
    assert exchanges(emitted("w4a8", target(32), meeting=1)) == 0
    assert exchanges(emitted("w4a8", target(32), meeting=2)) == 4


@needs_vulkan
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_product(scheme: str, n: int, k: int) -> None:
    of = target(device_size())
    product = Product(scheme, n, k, of)
    x, weight = normal(1, k), normal(n, k)
    func = product.scheduled(product.function(1), Given(meeting=16))
    if KIND == VULKAN:
        (shader,) = shaders(func, of)
        assert exchanges(shader)
    check(multiplied(product, func, x, weight), product.expected(x, weight))


@needs_vulkan
@pytest.mark.parametrize("scheme", INTEGERS)
def test_dot_products_and_an_epilogue(scheme: str) -> None:
    product = Product(scheme, 80, 512, target(device_size(), DOT))
    x, weight, bias, residual = normal(1, 512), normal(80, 512), normal(80), normal(1, 80)
    func = product.scheduled(product.function(1, bias=True), Given(meeting=16))
    y = multiplied(product, func, x, weight, bias, residual)
    check(y, np.tanh(product.expected(x, weight) + bias) + residual)


@needs_vulkan
@pytest.mark.parametrize("parts", [4, 64])
@pytest.mark.parametrize("panels", [1, 2, 4])
@pytest.mark.parametrize("scheme", ["f32", "w4a8", "w8a8"])
def test_whatever_else_is_chosen(scheme: str, panels: int, parts: int) -> None:
    product = Product(scheme, 64, 2048, target(device_size(), DOT))
    x, weight = normal(1, 2048), normal(64, 2048)
    choices = Given(meeting=16, panels=panels, parts=parts)
    func = product.scheduled(product.function(1), choices)
    check(multiplied(product, func, x, weight), product.expected(x, weight), 5e-6)
