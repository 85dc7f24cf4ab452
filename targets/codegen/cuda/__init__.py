"""CUDA code by NVRTC from PyPI: `Target("cuda")` compiles without a GPU and a toolkit."""

from .enable import enable

__all__ = ["enable"]
