"""Tensors that need not be stored: an expression of others, for the kernel that reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import te, tirx
from tvm.ir import Expr

Read = Callable[..., Expr]
"""Index of an element -> its value."""


@dataclass(frozen=True)
class Lazy:
    """A tensor of `shape`; `value` takes its inputs, as tensors or as buffers, and an index."""

    name: str
    shape: Sequence[Expr | int]
    inputs: tuple[te.Tensor, ...]
    value: Callable[..., Expr]

    def tensor(self) -> te.Tensor:
        """As a stage of its own, that a schedule may inline."""
        if self.value is _itself:
            return self.inputs[0]
        return te.compute(
            self.shape, lambda *index: self.value(self.inputs, *index), name=self.name
        )

    def read(self, buffers: Sequence[tirx.Buffer]) -> Read:
        """Inside a loop nest that is written out and has the inputs as `buffers`."""
        return lambda *index: self.value(tuple(buffers), *index)


def _itself(inputs: Sequence[te.Tensor], *index: Expr) -> Expr:
    return inputs[0][index]


def stored(tensor: te.Tensor) -> Lazy:
    """One that is there already."""
    return Lazy(tensor.op.name, tensor.shape, (tensor,), _itself)
