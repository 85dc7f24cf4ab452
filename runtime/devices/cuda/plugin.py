"""The CUDA plug-in; settings.h lists the environment variables that configure it."""

from __future__ import annotations

from pathlib import Path

from ..plugin.loading import Plugin
from ..plugin.recipe import Recipe

CUDA = Plugin(
    Recipe(
        kind="cuda",
        folder=Path(__file__).parent,
        own_format=True,  # images for several chips
        packages="Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++",
    )
)
