"""The subgroup size that a kernel requires: requested, the default, or an error."""

import os
import subprocess
import sys

import numpy as np
import pytest
import vulkan_calls as calls
from vulkan_shaders import axpy, processed

from handglass.runtime.devices.vulkan import vulkan_devices

pytestmark = pytest.mark.vulkan


def sizes() -> tuple[int, int]:
    subgroup = vulkan_devices()[0].report["subgroup"]
    return subgroup["min_size"], subgroup["max_size"]


def run(kernel: calls.Kernel) -> None:
    x, y = np.arange(64, dtype=np.float32), calls.on_device(np.ones(64, np.float32))
    calls.call(calls.load(kernel)["axpy"], calls.on_device(x), y, 2.0, 64)
    np.testing.assert_array_equal(calls.on_host(y), 1 + 2 * x)


@pytest.mark.parametrize("way", ["=", ">="])
def test_what_the_device_has(way: str) -> None:
    run(processed(axpy(), f"handglass.subgroup {way} {sizes()[1]}"))
    run(processed(axpy(), f"handglass.subgroup >= {sizes()[0]}"))


def test_narrower_than_all_that_it_has_is_enough_for_a_cluster() -> None:
    run(processed(axpy(), "handglass.subgroup >= 2"))


@pytest.mark.parametrize("way", ["=", ">="])
def test_what_it_has_not_is_refused(way: str) -> None:
    wider = 2 * sizes()[1]
    with pytest.raises(RuntimeError, match=rf"axpy .* {wider} .*\b{wider // 2}\b"):
        run(processed(axpy(), f"handglass.subgroup {way} {wider}"))


def test_exactly_is_not_more() -> None:
    with pytest.raises(RuntimeError, match=r"axpy .* 1 "):
        run(processed(axpy(), "handglass.subgroup = 1"))


def test_lines_of_others_are_nothing_to_us() -> None:
    run(processed(axpy(), "somebody.else 77"))


@pytest.mark.parametrize("line", ["", "8", "= ", "= 0", "= 12", ">= 256", "> 8"])
def test_a_damaged_line_is_no_license(line: str) -> None:
    with pytest.raises(RuntimeError, match="OpModuleProcessed"):
        calls.load(processed(axpy(), f"handglass.subgroup {line}"))


def test_the_validation_layer_is_silent() -> None:
    code = (
        "import test_vulkan_subgroup_size as t\n"
        "t.test_what_the_device_has('=')\n"
        "t.test_what_the_device_has('>=')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "VK_INSTANCE_LAYERS": "VK_LAYER_KHRONOS_validation",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "the validation layer reports errors on stdout"
