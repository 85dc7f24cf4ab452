"""The Vulkan library (C++), for tests that need it but no device."""

from __future__ import annotations

import subprocess

import pytest

from handglass.errors import DeviceError
from handglass.runtime.devices.plugin.build import find_compiler
from handglass.runtime.devices.plugin.library import find_library
from handglass.runtime.devices.vulkan import VULKAN


def skip_without_library() -> None:
    """Skip the test if a build dependency is missing; an error in our own code still fails it."""
    try:
        find_library(VULKAN.recipe)
    except DeviceError:
        if missing := what_is_missing():
            pytest.skip(missing)
        raise


def what_is_missing() -> str:
    """The missing build dependency; "" if there is none."""
    try:
        compiler = find_compiler(VULKAN.recipe)
    except DeviceError as error:
        return str(error)
    look = [*compiler, "-E", "-x", "c++", "-", "-o", "/dev/null"]
    found = subprocess.run(look, input=b"#include <vulkan/vulkan.h>\n", capture_output=True)
    return "" if found.returncode == 0 else "vulkan/vulkan.h: apt install libvulkan-dev"
