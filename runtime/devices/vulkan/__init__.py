"""Vulkan for TVM's runtime: a C++ library of ours, built or found, and loaded once per process.

    load_vulkan()          after it `tvm.device("vulkan")`, or any program on TVM's runtime
    vulkan_devices()       what this machine has, in the order of vulkan:0, vulkan:1, ...

The environment variables that change its ways are listed in settings.h.
"""

from .build import build_plugin
from .devices import vulkan_devices, vulkan_problem, vulkan_statistics
from .loading import load_vulkan

__all__ = [
    "build_plugin",
    "load_vulkan",
    "vulkan_devices",
    "vulkan_problem",
    "vulkan_statistics",
]
