"""The GPU that runs the operator tests: vulkan:0, or an emulated NVIDIA one.

`HANDGLASS_TEST_OPERATORS=cuda` selects the latter: the same tests, rules and references then run as
CUDA on the emulator of tests/cuda; with `cuda-card`, on the first NVIDIA GPU of this machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

import pytest

from handglass.targets import find_target

VULKAN = "vulkan"
KIND, _, _WHERE = (os.environ.get("HANDGLASS_TEST_OPERATORS") or VULKAN).partition("-")
ON_CARD = bool(_WHERE)
PRESET, CHIP = "cuda-host" if ON_CARD else "jetson-orin", 87


def target_of(target: Mapping[str, Any]) -> dict[str, Any]:
    """The target of a test; on another kind of device, that kind's instead."""
    return dict(target if KIND == VULKAN else find_target(PRESET).tvm)


def different(targets: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Parameters of a test, targets by name. On another kind of device all are one (target_of)."""
    named = [pytest.param(target, id=name) for name, target in targets.items()]
    return named if KIND == VULKAN else named[:1]


@cache
def enable() -> None:
    """Make the device available to this process."""
    if KIND != VULKAN and not ON_CARD:
        from emulated_driver import driver_environment, ptx_of

        os.environ.update(driver_environment(chips=CHIP))
        # an allocation of the driver for each tensor: reading beyond one is out of bounds
        os.environ["HANDGLASS_CUDA_BLOCK_MIB"] = "0"
        vars(import_module("handglass.targets.codegen.cuda.build"))["images_of"] = ptx_of
    import_module(f"handglass.targets.codegen.{KIND}").enable()
