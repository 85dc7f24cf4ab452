"""Pack checkpoint tensors into parameter files, a few million weights at a time.

Peak memory is one part of a weight in float32 and packed; everything else is mapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tvm.relax.frontend import nn

from handglass.runtime.bundle.entries import TensorEntry
from handglass.runtime.bundle.tensor_writer import TensorWriter, file_size

from ..checkpoints.checkpoint import Checkpoint
from ..lowering.phases import Progress
from ..models.leaves import leaves

FILE_BYTES = 1 << 30
"""Largest size of a parameter file, unless a single tensor is larger."""


def entries(parameters: list[tuple[str, nn.Parameter]]) -> tuple[TensorEntry, ...]:
    """The manifest entries of the parameters, in the order of the `params` tuple."""
    return tuple(
        TensorEntry(name, tuple(int(n) for n in p.shape), str(p.dtype)) for name, p in parameters
    )


def packed_bytes(params: tuple[TensorEntry, ...]) -> int:
    """The size of the parameter files that `pack_parameters` writes."""
    groups = ([(e.name, e.shape, e.dtype) for e in group] for group in _files(params))
    return sum(map(file_size, groups))


def pack_parameters(
    model: nn.Module,
    checkpoint: Checkpoint,
    params: tuple[TensorEntry, ...],
    folder: Path,
    progress: Progress | None = None,
) -> list[str]:
    """Write every parameter of `model` to files in `folder` and return the file names.

    Raises InputError if the checkpoint lacks a tensor, has an extra one, or a shape differs.
    """
    groups = list(_files(params))
    names = [f"params-{i + 1:05d}.safetensors" for i in range(len(groups))]
    with ExitStack() as stack:
        place: dict[str, TensorWriter] = {}
        for name, group in zip(names, groups, strict=True):
            specs = [(entry.name, entry.shape, entry.dtype) for entry in group]
            writer = stack.enter_context(TensorWriter(folder / name, specs))
            place |= {entry.name: writer for entry in group}
        all_leaves = list(leaves(model))
        for done, (path, leaf) in enumerate(all_leaves):
            if progress:
                progress("pack", done, len(all_leaves))
            for attribute, first, rows in leaf.stream(checkpoint):
                name = f"{path}.{attribute}"
                place[name].write(name, rows, first)
        checkpoint.finish()
    return names


def _files(params: tuple[TensorEntry, ...]) -> Iterator[list[TensorEntry]]:
    group: list[TensorEntry] = []
    size = 0
    for entry in params:
        bytes_ = int(np.prod(entry.shape)) * np.dtype(entry.dtype).itemsize
        if group and size + bytes_ > FILE_BYTES:
            yield group
            group, size = [], 0
        group.append(entry)
        size += bytes_
    yield group
