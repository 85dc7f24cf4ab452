"""The state of one conversation: keys and values, and what recurrent layers keep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..bundle.entries import RECURRENT, StateTensor
from ..execution.placement import Placement


class State:
    """The state tensors of a bundle, in manifest order, at first zero."""

    def __init__(self, entries: Sequence[StateTensor], place: Placement) -> None:
        self._place = place
        self.tensors = [place.zeros(entry.shape, entry.dtype) for entry in entries]
        pairs = zip(self.tensors, entries, strict=True)
        self._recurrent = [tensor for tensor, entry in pairs if entry.kind == RECURRENT]

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
