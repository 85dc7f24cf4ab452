"""Vulkan: TIR to SPIR-V, so that `Target("vulkan")` compiles with the published TVM wheel."""

from .enable import enable

__all__ = ["enable"]
