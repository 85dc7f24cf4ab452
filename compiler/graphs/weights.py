"""The constants of a graph as a checkpoint: arrays by name, which packing reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from handglass.errors import InputError

from ..checkpoints.checkpoint import Checkpoint

Make = Callable[[], np.ndarray]


class GraphWeights(Checkpoint):
    """Arrays that are made when they are read, as a large one may be transposed first."""

    def __init__(self) -> None:
        super().__init__(Path(), {}, {})
        self._makers: dict[str, Make] = {}
        self._infinite: set[str] = set()
        self._last: tuple[str, np.ndarray] | None = None

    def add(self, name: str, make: Make, may_be_infinite: bool = False) -> None:
        """`may_be_infinite`: as a mask may be, which no scheme rounds."""
        self._makers[name] = make
        if may_be_infinite:
            self._infinite.add(name)

    def __contains__(self, name: str) -> bool:
        return name in self._makers

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one array."""
        return tuple(self._array(name).shape)

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        """The constants of a graph have the shapes that were found in it."""
        assert self.shape(name) == tuple(shape), f"{name}: {self.shape(name)}, not {shape}"

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The whole array in float32. Raises InputError for one that is not finite."""
        self.expect(name, shape)
        return self._array(name)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._array(name)[start:stop]

    def finish(self) -> None:
        """All constants belong to the graph."""
        self._last = None

    def _array(self, name: str) -> np.ndarray:
        """The last array is kept, because a matrix is read in parts."""
        if self._last is None or self._last[0] != name:
            made = np.ascontiguousarray(self._makers[name](), np.float32)
            if name not in self._infinite and not np.isfinite(made).all():
                raise InputError(f"the constant {name} of the graph has values that are not finite")
            self._last = name, made
        return self._last[1]
