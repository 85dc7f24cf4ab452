"""The GPU requirements of a bundle: only the target capabilities that its code uses."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm", reason="emits code with the TVM compiler")
from vulkan_rule_kernels import each
from vulkan_running import shaders
from vulkan_targets import PORTABLE

from handglass.targets.codegen.used import what_is_used
from handglass.targets.codegen.vulkan.gpu import REDUCTIONS, VulkanCapabilities

pytestmark = pytest.mark.compiler

EVERYTHING = VulkanCapabilities(
    supports_int64=True,
    supports_integer_dot_product=True,
    supported_subgroup_operations=REDUCTIONS,
    subgroup_size=32,
    cooperative_matrix=(16, 16, 16),
)


@pytest.mark.parametrize(
    ("compute", "result", "arguments", "expected"),
    [
        (lambda x: x + x, "float32", ["float32"], set()),
        (lambda x: x.astype("float32"), "float32", ["float16"], {"supports_16bit_buffer"}),
        (lambda x: x * x, "float16", ["float16"], {"supports_16bit_buffer", "supports_float16"}),
        (lambda x: x.astype("int32"), "int32", ["int8"], {"supports_8bit_buffer"}),
        (lambda x: x - x, "int64", ["int64"], {"supports_int64"}),
    ],
    ids=["float32", "halves that are stored", "halves", "bytes that are stored", "int64"],
)
def test_what_a_kernel_uses(compute, result, arguments, expected) -> None:  # type: ignore[no-untyped-def]
    with what_is_used() as used:
        shaders(each(compute, result, *arguments), PORTABLE)
    assert {name for name, bits in used.items() if bits} == expected


def test_nobody_is_told_outside() -> None:
    with what_is_used() as used:
        pass
    shaders(each(lambda x: x * x, "float16", "float16"), PORTABLE)
    assert used == {}


def test_uses_of_several_kernels_are_put_together() -> None:
    with what_is_used() as used:
        shaders(each(lambda x: x.astype("int32"), "int32", "int8"), PORTABLE)
        shaders(each(lambda x: x - x, "int64", "int64"), PORTABLE)
    assert set(used) == {"supports_8bit_buffer", "supports_int64"}


def test_features_that_are_not_used_are_not_asked_for() -> None:
    nothing = EVERYTHING.only({})
    assert not any(v for k, v in nothing.abilities.items() if k.startswith("supports_"))
    assert "widest_subgroup" not in nothing.abilities and "subgroup_sizes" not in nothing.abilities
    assert nothing.max_threads_per_block == EVERYTHING.max_threads_per_block


def test_features_that_are_used_stay() -> None:
    used = {"supports_float16": 1, "supported_subgroup_operations": 1 | 4}
    found = EVERYTHING.only(used).abilities
    assert (found["supports_float16"], found["supports_int64"]) == (1, 0)
    assert (found["supported_subgroup_operations"], found["widest_subgroup"]) == (5, 32)
    matrices = EVERYTHING.only({"supports_cooperative_matrix": 1})
    assert matrices.abilities["subgroup_sizes"] == 32
    assert EVERYTHING.only(dict.fromkeys(EVERYTHING.abilities, -1)) == EVERYTHING


def test_a_target_never_gains_by_use() -> None:
    least = VulkanCapabilities()
    used = {"supports_int64": 1, "supported_subgroup_operations": 4}
    assert least.only(used) == least.only({})
