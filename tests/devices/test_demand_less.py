"""Advice for a bundle that requires what a Vulkan device lacks: no option that the bundle has."""

from types import SimpleNamespace
from typing import Any

import pytest

from handglass.runtime.devices.driver import open_driver
from handglass.runtime.devices.kinds import KINDS


@pytest.mark.parametrize(
    ("target", "scheme", "cache", "expected"),
    [
        ("vulkan-amd", "f16", "float16", "--target vulkan, --quantization f32 or w4a8, --kv-cache"),
        ("vulkan", "w4a8", "int8", "less is required by --quantization f32, --kv-cache f32"),
        ("vulkan", "w4a8", "float32", "less is required by --quantization f32"),
        ("vulkan-amd", "f32", "float32", "less is required by --target vulkan"),
        ("vulkan", "f32", "float32", "a bundle compiled for a CPU needs no driver"),
    ],
)
def test_options_that_help(target: str, scheme: str, cache: str, expected: str) -> None:
    manifest: Any = SimpleNamespace(
        target=SimpleNamespace(name=target),
        scheme={"language": scheme, "vision": scheme},
        state=SimpleNamespace(cache_dtype=cache),
    )
    assert expected in open_driver(KINDS["vulkan"]).demand_less(manifest)


def test_the_chips_of_a_target_do_not_depend_on_options() -> None:
    manifest: Any = None
    assert "handglass targets" in open_driver(KINDS["cuda"]).demand_less(manifest)
