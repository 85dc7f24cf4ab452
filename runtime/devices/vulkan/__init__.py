"""A Vulkan plug-in for TVM's runtime, in C++.

load_vulkan()          enables `tvm.device("vulkan")` for any program on TVM's runtime
vulkan_devices()       the devices of this machine, in the order of vulkan:0, vulkan:1, ...
"""

from .devices import vulkan_devices, vulkan_problem, vulkan_statistics
from .plugin import VULKAN

load_vulkan = VULKAN.load

__all__ = ["VULKAN", "load_vulkan", "vulkan_devices", "vulkan_problem", "vulkan_statistics"]
