"""Builds the Vulkan library once, before both workers of `make test` need it.

It stays in the user's cache, from which tests take it (tests/conftest.py).
"""

from vulkan_library import what_is_missing

from handglass.runtime.devices.plugin.library import find_library
from handglass.runtime.devices.vulkan import VULKAN

if __name__ == "__main__":
    missing = what_is_missing()
    print(f"not built: {missing}" if missing else f"ready: {find_library(VULKAN.recipe).path}")
