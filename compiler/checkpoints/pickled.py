"""PyTorch `.bin` checkpoints, read with the restricted unpickler and mapped into memory.

Used only if the user allows it: even with `weights_only`, a pickle is a program. `PickledFile` has
the interface of `runtime.bundle.tensors.TensorFile`, so a checkpoint can use either.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import InputError
from handglass.runtime.system.json_text import LFS_POINTER, refuse_pointer
from handglass.runtime.system.regular_file import open_regular


class PickledFile:
    """The tensors of one `.bin` file."""

    def __init__(self, path: Path, tensors: dict[str, Any]) -> None:
        self._path = path
        self._tensors = tensors

    @classmethod
    def open(cls, path: Path) -> PickledFile:
        """Map a zip-format file. Raises InputError if it contains anything but tensors."""
        with path.open("rb") as file:
            refuse_pointer(file.read(len(LFS_POINTER)), str(path))
        try:
            import torch
        except ImportError:
            raise InputError(
                f"{path}: reading a .bin file needs PyTorch: pip install torch"
            ) from None
        try:
            open_regular(path).close()
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(f"{path}: not a file of plain tensors: {error}") from None
        if not isinstance(content, dict):
            raise InputError(f"{path}: expected named tensors, found {type(content).__name__}")
        for name, value in content.items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor):
                raise InputError(f"{path}: {name!r} is {type(value).__name__}, not a tensor")
        return cls(path, content)

    @property
    def names(self) -> list[str]:
        """All tensor names."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor."""
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> str:
        """Its element type, as numpy names it."""
        return str(self._tensors[name].dtype).removeprefix("torch.")

    def array(self, name: str) -> np.ndarray:
        """Its values; bfloat16, which numpy lacks, as uint16 bits."""
        tensor = self._tensors[name].contiguous()
        if self.dtype(name) == "bfloat16":
            import torch

            return tensor.view(torch.int16).numpy().view(np.uint16)
        return tensor.numpy()
