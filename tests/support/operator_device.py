"""The GPU that runs the operator tests: vulkan:0, or an emulated NVIDIA one.

`HANDGLASS_TEST_OPERATORS=cuda` selects the latter: the same tests, rules and references then run as
CUDA on the emulator of tests/cuda.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from handglass.targets import find_target

VULKAN = "vulkan"
KIND = os.environ.get("HANDGLASS_TEST_OPERATORS") or VULKAN
PRESET, CHIP = "jetson-orin", 87


def target_of(target: Mapping[str, Any]) -> dict[str, Any]:
    """The target of a test; on another kind of device, that kind's instead."""
    return dict(target if KIND == VULKAN else find_target(PRESET).tvm)


@cache
def enable() -> None:
    """Make the device available to this process."""
    if KIND != VULKAN:
        from emulated_driver import driver_environment

        os.environ.update(driver_environment(chips=CHIP))
    import_module(f"handglass.targets.codegen.{KIND}").enable()
