"""The leaves of every model: parameters with the checkpoint tensors they are loaded from.

`Leaf.stream(checkpoint)` reads the tensors and yields the leaf's parameters in parts, so that a
large one is never in memory as a whole; nothing is read earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm.relax.frontend import nn

from ..checkpoints.checkpoint import Checkpoint


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `stop` (default: all) of the checkpoint tensor `name` with `shape`."""

    name: str
    shape: tuple[int, ...]
    start: int = 0
    stop: int | None = None

    def read(self, checkpoint: Checkpoint) -> np.ndarray:
        if self.stop is None:
            return checkpoint.read(self.name, self.shape)
        checkpoint.expect(self.name, self.shape)
        return checkpoint.read_rows(self.name, self.start, self.stop)

    def chunks(self, checkpoint: Checkpoint, size: int) -> Iterator[np.ndarray]:
        """Yield the rows in order, as matrices of at most `size` rows."""
        checkpoint.expect(self.name, self.shape)
        end = self.start + self.count
        for start in range(self.start, end, size):
            stop = min(start + size, end)
            yield checkpoint.read_rows(self.name, start, stop).reshape(stop - start, -1)

    @property
    def count(self) -> int:
        return (self.shape[0] if self.stop is None else self.stop) - self.start


Part = tuple[str, int, np.ndarray]
"""Name of a parameter, the first of its rows, and these rows."""


class Leaf(nn.Module):
    """A module that holds parameters."""

    sources: tuple[Rows, ...] = ()
    """The parts of the checkpoint that `stream` reads."""

    def stream(self, checkpoint: Checkpoint) -> Iterator[Part]:
        """The parts of this leaf's parameters; those of each parameter are in order."""
        raise AssertionError("a subclass of Leaf must implement stream()")

    def load(self, checkpoint: Checkpoint) -> Mapping[str, np.ndarray]:
        """The whole arrays of this leaf's parameters, by attribute name."""
        parts: dict[str, list[np.ndarray]] = {}
        for name, _, rows in self.stream(checkpoint):
            parts.setdefault(name, []).append(rows)
        return {name: np.concatenate(found) for name, found in parts.items()}


class Stored(Leaf):
    """One float32 tensor that `read` computes from the checkpoint or the configuration."""

    def __init__(
        self,
        shape: Sequence[int],
        read: Callable[[Checkpoint], np.ndarray],
        sources: Sequence[Rows] = (),
    ) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.value = nn.Parameter(tuple(shape), "float32")
        self._read = read

    def stream(self, checkpoint: Checkpoint) -> Iterator[Part]:
        yield "value", 0, np.ascontiguousarray(self._read(checkpoint), np.float32)


def vector(*sources: Rows) -> Stored:
    """Concatenated one-dimensional checkpoint tensors, e.g. the biases of q, k and v."""
    length = sum(source.count for source in sources)
    return Stored((length,), lambda ckpt: np.concatenate([s.read(ckpt) for s in sources]), sources)


def leaves(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """Yield every leaf below `module` with its dotted path, in attribute order."""
    if isinstance(module, Leaf):
        yield prefix.rstrip("."), module
        return
    children = enumerate(module) if isinstance(module, nn.ModuleList) else vars(module).items()
    for name, child in children:
        if isinstance(child, nn.Module):
            yield from leaves(child, f"{prefix}{name}.")
