"""The Vulkan plug-in; settings.h lists the environment variables that configure it."""

from __future__ import annotations

from pathlib import Path

from ..plugin.loading import Plugin
from ..plugin.recipe import Recipe

VULKAN = Plugin(
    Recipe(
        kind="vulkan",
        folder=Path(__file__).parent,
        packages="Debian, Ubuntu: apt install g++ libvulkan-dev; "
        "Fedora: dnf install gcc-c++ vulkan-headers",
        header="vulkan/vulkan.h",
        header_packages="Debian, Ubuntu: apt install libvulkan-dev; "
        "Fedora: dnf install vulkan-headers",
    )
)
