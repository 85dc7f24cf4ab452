"""A Vulkan plug-in for TVM's runtime, in C++: found or built, and loaded once per process.

    load_vulkan()          enables `tvm.device("vulkan")` for any program on TVM's runtime
    vulkan_devices()       the devices of this machine, in the order of vulkan:0, vulkan:1, ...

settings.h lists the environment variables that configure it.
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
