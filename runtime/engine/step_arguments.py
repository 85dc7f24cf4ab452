"""The arguments of one decoding step, in tensors that every step reuses."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bundle.entries import AXES
from ..bundle.tensors import aligned_empty
from ..execution.placement import Placement


class StepArguments:
    """A token and its rotary position."""

    def __init__(self, place: Placement) -> None:
        self._place = place
        self._token = aligned_empty((1,), np.int32)
        self._token_tensor = place.put(self._token)
        self._position = aligned_empty((1, AXES), np.int32)
        self._position_tensor = place.put(self._position)

    def token(self, token: int) -> Any:
        """The tensor with this token."""
        self._token[0] = token
        return self._written(self._token_tensor, self._token)

    def position(self, position: int) -> Any:
        """The tensor with this position on every axis."""
        self._position[:] = position
        return self._written(self._position_tensor, self._position)

    def _written(self, tensor: Any, array: np.ndarray) -> Any:
        if self._place.copies:
            self._place.write(tensor, array)
        return tensor
