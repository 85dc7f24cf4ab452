"""Attention in which every query sees everything: of patches among themselves, of the resampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import te
from tvm.relax.frontend import nn

from ..ops import attention as attention_op
from ..ops.computed import Computed
from ..ops.scope import on_gpu
from .layers import opaque


@dataclass(frozen=True)
class Heads:
    """Columns of a projection (n, width), from `first` on, as (n, heads, d)."""

    projection: nn.Tensor
    heads: int
    d: int
    first: int = 0

    def of(self, projection: te.Tensor) -> Computed:
        return attention_op.heads_of(projection, self.heads, self.d, self.first)


def attend_to_all(name: str, q: Heads, k: Heads, v: Heads) -> nn.Tensor:
    """softmax(q k^T / sqrt(d)) v of all heads -> (queries, heads * d), as one kernel; on a GPU the
    keys are laid out in one of their own, so that the graph can plan the memory for them."""
    keys = lambda x: attention_op.key_panels(k.of(x))  # noqa: E731 (of one kernel or of two)
    if on_gpu():
        panels = opaque(keys, f"{name}_keys", k.projection)
        tensors = _distinct([q.projection, v.projection])
        return opaque(
            lambda keys, *x: _attend(q.of(_at(q, tensors, x)), keys, v.of(_at(v, tensors, x))),
            name,
            panels,
            *tensors,
        )
    tensors = _distinct([q.projection, k.projection, v.projection])
    return opaque(
        lambda *x: _attend(
            q.of(_at(q, tensors, x)), keys(_at(k, tensors, x)), v.of(_at(v, tensors, x))
        ),
        name,
        *tensors,
    )


def _attend(q: Computed, keys: te.Tensor, v: Computed) -> te.Tensor:
    scale, n = int(q.shape[2]) ** -0.5, v.shape[0]
    return attention_op.attention(q, keys, attention_op.head_major(v), scale, lambda i: n)


def _at(heads: Heads, tensors: Sequence[nn.Tensor], given: Sequence[te.Tensor]) -> te.Tensor:
    """What was given for the projection of `heads`."""
    found = (x for tensor, x in zip(tensors, given, strict=True) if tensor is heads.projection)
    return next(found)


def _distinct(tensors: Sequence[nn.Tensor]) -> list[nn.Tensor]:
    return list({id(tensor): tensor for tensor in tensors}.values())
