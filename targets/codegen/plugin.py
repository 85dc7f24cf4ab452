"""The C++ library that a bundle for a GPU includes, so that its device needs no compiler."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from handglass.errors import DeviceError
from handglass.runtime.devices.plugin.library import cross_library, find_library
from handglass.runtime.devices.plugin.recipe import Recipe
from handglass.runtime.system.machine import architecture

from ..target import Target


def plugin_for(recipe: Recipe, target: Target, needed: bool) -> Path | None:
    """The library for the host CPU of the target's GPU.

    If it cannot be built on this machine, raises DeviceError if `needed`, else returns None; the
    device then builds it at first use. Only GNU cross compilers work: TVM's runtime uses their C++
    library, and C++ exceptions cross the boundary.
    """
    try:
        return _plugin_for(recipe, target)
    except DeviceError:
        if needed:
            raise
        return None


def _plugin_for(recipe: Recipe, target: Target) -> Path:
    if target.architecture == architecture(platform.machine()) and not target.stub_libraries:
        return find_library(recipe).path
    compiler = shutil.which(f"{target.gnu_triple}-g++")
    if compiler is None or target.stub_libraries:  # Android has a different C++ library
        raise DeviceError(f"{recipe.product} for {target.triple} cannot be built on this machine")
    return cross_library(recipe, f"{target.architecture}-linux", [compiler]).path
