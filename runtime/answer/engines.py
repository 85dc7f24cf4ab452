"""The parts of a session that answers use, as protocols: tests have sessions in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class StateEngine(Protocol):
    """The part of a session that manages its state."""

    @property
    def is_rewindable(self) -> bool: ...
    def save_state(self) -> Any: ...
    def restore_state(self, state: Any | None) -> None: ...


class StatesEngine(StateEngine, Protocol):
    """The part of a session that has several states, one of which is in use."""

    @property
    def state(self) -> Any: ...
    def new_state(self) -> Any: ...
    def use(self, state: Any) -> None: ...
    @property
    def can_copy_positions(self) -> bool: ...
    def copy_positions(self, source: Any, count: int) -> None: ...


class Engine(StateEngine, Protocol):
    """The part of a session that the loop uses."""

    @property
    def context(self) -> int: ...
    def embed(self, ids: Sequence[int]) -> np.ndarray: ...
    def prefill(
        self, x: np.ndarray, pos: int, positions: np.ndarray | None = None
    ) -> np.ndarray: ...
    def decode(self, token: int, pos: int, position: int | None = None) -> np.ndarray: ...
