"""Which part of a state tensor belongs to the first positions of a conversation.

A tensor of kind `positions` has the position along its first axis if it has two axes, else along
the second, after the heads; each index of that axis holds one position or a panel of 16
(docs/kernels.md). A tensor of kind `recurrent` belongs to all positions together, one of kind
`pictures` to none: it is written again before it is read.
"""

from __future__ import annotations

import ctypes

import numpy as np

from ..bundle.entries import PICTURES, RECURRENT, StateTensor

PANEL = 16
"""Positions that keys keep together."""


def part_shape(tensor: StateTensor, context: int, count: int) -> tuple[int, ...]:
    """The shape of the smallest part with the first `count` of `context` positions.

    The whole tensor where it has another layout than those above.
    """
    shape = tensor.shape
    if tensor.kind == PICTURES:
        return (0, *shape[1:])
    if tensor.kind == RECURRENT or len(shape) < 2:
        return shape
    axis = 0 if len(shape) == 2 else 1
    sizes = {context: 1, -(-context // PANEL): PANEL}  # of the axis -> positions of an index
    if shape[axis] not in sizes:
        return shape
    return (*shape[:axis], -(-count // sizes[shape[axis]]), *shape[axis + 1 :])


def part_of(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A view of the part of this shape."""
    return array[tuple(slice(size) for size in shape)]


def put_part(array: np.ndarray, part: np.ndarray) -> None:
    """Write a part into an array, which numpy may hold to be read-only."""
    if part.shape[1:] == array.shape[1:]:  # along the first axis, or all of it
        _copy(array[: len(part)], part)
        return
    for row, new in zip(array, part, strict=True):
        _copy(row[: len(new)], new)


def _copy(to: np.ndarray, part: np.ndarray) -> None:
    """Between contiguous arrays. Before numpy 2.1, those of DLPack cannot be assigned to."""
    data = np.ascontiguousarray(part)
    assert to.flags.c_contiguous and to.nbytes == data.nbytes
    ctypes.memmove(to.ctypes.data, data.ctypes.data, data.nbytes)
