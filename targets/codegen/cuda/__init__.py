"""CUDA code by NVRTC from PyPI, without GPU and toolkit: `Target("cuda")` compiles with the wheel."""

from .enable import enable

__all__ = ["enable"]
