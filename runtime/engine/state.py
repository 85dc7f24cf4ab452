"""The state of one conversation: keys and values, and what recurrent layers keep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..bundle.entries import POSITIONS, RECURRENT, StateEntry
from ..execution.placement import Placement
from ..execution.tvm_runtime import import_tvm_ffi
from .state_layout import part_of, part_shape, put_part


class State:
    """The state tensors of a bundle, in manifest order, at first zero.

    On the CPU they take memory only where they have been written.
    """

    def __init__(self, entry: StateEntry, place: Placement) -> None:
        self._place = place
        self._context = entry.context
        self.tensors = [place.zeros(tensor.shape, tensor.dtype) for tensor in entry.tensors]
        self.cache = import_tvm_ffi().convert(self.tensors)
        """The tensors as one argument of a compiled function."""
        self.decoding = place.repeated()
        """The context of each decoding step with these tensors."""
        pairs = list(zip(self.tensors, entry.tensors, strict=True))
        self._recurrent = [tensor for tensor, entry in pairs if entry.kind == RECURRENT]
        self._placed = [(tensor, entry) for tensor, entry in pairs if entry.kind == POSITIONS]

    def views(self) -> tuple[np.ndarray, ...]:
        """Views on the CPU, copies from a GPU."""
        return tuple(self._place.view(tensor) for tensor in self.tensors)

    def fill(self, arrays: Iterable[np.ndarray]) -> None:
        """Replace the contents of all tensors."""
        for tensor, array in zip(self.tensors, arrays, strict=True):
            self._place.write(tensor, array)

    def save(self) -> tuple[np.ndarray, ...]:
        """A copy of the recurrent tensors."""
        return tuple(np.array(self._place.view(tensor)) for tensor in self._recurrent)

    def restore(self, saved: Sequence[np.ndarray] | None) -> None:
        """Restore what `save` returned; None restores the initial zeros."""
        tensors = self._recurrent
        arrays = saved or [np.zeros_like(self._place.view(tensor)) for tensor in tensors]
        for tensor, array in zip(tensors, arrays, strict=True):
            self._place.write(tensor, array)

    def copy_positions(self, source: State, count: int) -> None:
        """Copy the first `count` positions of another state of the same bundle, in host memory.

        A few more may be copied, without effect: later positions are written before they are read.
        """
        for (to, entry), (tensor, _) in zip(self._placed, source._placed, strict=True):
            shape = part_shape(entry, self._context, count)
            put_part(self._place.view(to), part_of(self._place.view(tensor), shape))
