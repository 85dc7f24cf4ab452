"""Serialisation of a module of kind `cuda`; runtime/devices/cuda/module.cc reads it.

The format's name and the kernels come first: name, arguments as DLPack types, launch tags, which
arguments are in cells. The images follow: architecture and content. All of them hold the same
kernels. In format 1 there were no cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..serialized import DLPackType, string, strings, types, u64

FORMAT = "handglass.cuda.2"


@dataclass(frozen=True)
class Kernel:
    """One kernel; `tags` name the launch parameters in call order, as in TVM.

    Arguments with the numbers `cells` are integers that the kernel reads from cells, if the address
    of cells, a last parameter that callers do not pass, is not null (cells.py).
    """

    name: str
    arguments: tuple[DLPackType, ...]
    tags: tuple[str, ...]
    cells: tuple[int, ...] = ()


def pack_module(kernels: Sequence[Kernel], images: Mapping[str, bytes]) -> bytes:
    """`images` maps an architecture ("sm_87", "compute_87") to a cubin or to PTX with its NUL."""
    data = string(FORMAT) + u64(len(kernels))
    for kernel in kernels:
        data += string(kernel.name) + types(kernel.arguments) + strings(kernel.tags)
        data += u64(len(kernel.cells)) + b"".join(map(u64, kernel.cells))
    data += u64(len(images))
    return data + b"".join(string(name) + string(image) for name, image in images.items())
