"""Tensors that need not be stored: the kernel that reads them evaluates their expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import te, tirx
from tvm.ir import Expr

Read = Callable[..., Expr]
"""Index of an element -> value."""


@dataclass(frozen=True)
class Lazy:
    """A tensor of `shape`; `value` takes the inputs, as tensors or buffers, and an index."""

    name: str
    shape: Sequence[Expr | int]
    inputs: tuple[te.Tensor, ...]
    value: Callable[..., Expr]

    def tensor(self) -> te.Tensor:
        """The tensor as a separate stage, which a schedule may inline."""
        if self.value is _itself:
            return self.inputs[0]
        return te.compute(
            self.shape, lambda *index: self.value(self.inputs, *index), name=self.name
        )

    def read(self, buffers: Sequence[tirx.Buffer]) -> Read:
        """A reader for a hand-written loop nest that has the inputs as `buffers`."""
        return lambda *index: self.value(tuple(buffers), *index)


def _itself(inputs: Sequence[te.Tensor], *index: Expr) -> Expr:
    return inputs[0][index]


def stored(tensor: te.Tensor) -> Lazy:
    """A view of an existing tensor."""
    return Lazy(tensor.op.name, tensor.shape, (tensor,), _itself)
