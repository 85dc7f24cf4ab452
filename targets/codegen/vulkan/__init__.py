"""Vulkan code generator, TIR to SPIR-V: `Target("vulkan")` works with the published TVM wheel."""

from .enable import enable

__all__ = ["enable"]
