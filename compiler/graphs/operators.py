"""Our operators for what was recognised: layers whose parameters are constants of a graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from tvm import te
from tvm.ir import Expr
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from handglass.schedules.select import INTEGERS

from ..models.layers import LayerNorm, Linear, is_one_row, opaque
from ..models.leaves import Rows
from ..ops import exponential
from ..ops.graph_attention import Columns, attention_of_rows, side_by_side
from ..schemes.scheme import Scheme, attention_to_all, has_tile_attention, selection_of
from .attention_pattern import AttentionMatch
from .graph import array_of, shape_of
from .layout import Heads
from .patches_pattern import PatchesMatch
from .patterns import ActivationMatch, LinearMatch, NormMatch
from .recognition import Match
from .values import Values
from .weights import GraphWeights


class Operator(Protocol):
    """One operator of ours in place of a match."""

    def emit(self, values: Values, root: Any) -> None:
        """Compute the value of `root`."""


def operator_for(match: Match, scheme: Scheme, name: str, weights: GraphWeights) -> Operator:
    """The operator, whose parameters are called `name`."""
    if isinstance(match, LinearMatch):
        return Product(match, scheme, name, weights)
    if isinstance(match, PatchesMatch):
        return Patches(match, scheme, name, weights)
    if isinstance(match, NormMatch):
        return Norm(match, scheme, name, weights)
    if isinstance(match, AttentionMatch):
        return Attention(match, scheme, name, weights)
    return Activation(match)


def linear_of(
    matches: tuple[LinearMatch, ...], scheme: Scheme, name: str, weights: GraphWeights
) -> Linear:
    """The products of the same rows as one, below each other."""
    inputs, n = shape_of(matches[0].weight)[0], sum(shape_of(m.weight)[1] for m in matches)
    weights.add(f"{name}.weight", lambda: np.concatenate([array_of(m.weight).T for m in matches]))
    bias = []
    if matches[0].bias is not None:
        weights.add(
            f"{name}.bias", lambda: np.concatenate([array_of(m.bias).reshape(-1) for m in matches])
        )
        bias = [Rows(f"{name}.bias", (n,))]
    return Linear(scheme, [Rows(f"{name}.weight", (n, inputs))], bias)


class Product(nn.Module):
    def __init__(
        self, match: LinearMatch, scheme: Scheme, name: str, weights: GraphWeights
    ) -> None:
        super().__init__()
        self.x, self.linear = match.x, linear_of((match,), scheme, name, weights)

    def emit(self, values: Values, root: Any) -> None:
        values.put_rows(root, self.linear(values.source(self.x)))


class Patches(nn.Module):
    def __init__(
        self, match: PatchesMatch, scheme: Scheme, name: str, weights: GraphWeights
    ) -> None:
        super().__init__()
        self.x, shape = match.x, shape_of(match.weight)
        self.shape, inputs = shape[1:], int(np.prod(shape[1:]))
        weights.add(f"{name}.weight", lambda: array_of(match.weight).reshape(shape[0], inputs))
        bias = []
        if match.bias is not None:
            weights.add(f"{name}.bias", lambda: array_of(match.bias).reshape(-1))
            bias = [Rows(f"{name}.bias", shape[:1])]
        self.linear = Linear(scheme, [Rows(f"{name}.weight", (shape[0], inputs))], bias)

    def emit(self, values: Values, root: Any) -> None:
        rows = opaque(lambda x: cut(x, *self.shape), "patches", values.whole(self.x))
        values.put_rows(root, self.linear(rows))


def cut(x: te.Tensor, channels: int, height: int, width: int) -> te.Tensor:
    """(batch, c, H, W) -> (batch * H / h * W / w, c h w): the pixels of each patch."""
    batch, _, below, beside = (int(n) for n in x.shape)
    down, across = below // height, beside // width
    size = height * width

    def value(i: Expr, j: Expr) -> Expr:
        place = i % (down * across)
        row = place // across * height + j % size // width
        column = place % across * width + j % width
        return x[i // (down * across), j // size, row, column]

    return te.compute((batch * down * across, channels * size), value, name="patches")


class Norm(nn.Module):
    def __init__(self, match: NormMatch, scheme: Scheme, name: str, weights: GraphWeights) -> None:
        super().__init__()
        self.x, width = match.x, shape_of(match.weight)[-1]
        self.norm = LayerNorm(name, width, match.eps)
        weights.add(f"{name}.weight", lambda: array_of(match.weight))
        weights.add(f"{name}.bias", lambda: array_of(match.bias))
        self.scheme = scheme

    def emit(self, values: Values, root: Any) -> None:
        source = self.norm(values.rows(self.x))
        kernel = selection_of(self.scheme).kernel(is_one_row(source))
        is_left = kernel.activations == INTEGERS  # to the kernel that quantizes the rows
        values.put_rows(root, source if is_left else source.computed())


class Activation(nn.Module):
    def __init__(self, match: ActivationMatch) -> None:
        super().__init__()
        self.x, self.kind = match.x, match.kind

    def emit(self, values: Values, root: Any) -> None:
        function = getattr(exponential, self.kind)
        values.put_rows(root, op.tensor_expr_op(function, self.kind, [values.rows(self.x)]))


class Attention(nn.Module):
    """Attention, with the projections before it as one matrix if they read the same rows."""

    def __init__(
        self, match: AttentionMatch, scheme: Scheme, name: str, weights: GraphWeights
    ) -> None:
        super().__init__()
        self.match = match
        has_mask = match.mask is not None  # a column, whose lowest number no integers can hold
        self.tiles = has_tile_attention(scheme) if has_mask else attention_to_all(scheme)
        stacked = match.stacked
        self.projection = linear_of(stacked, scheme, name, weights) if stacked else None

    def emit(self, values: Values, root: Any) -> None:
        match, heads = self.match, (self.match.q, self.match.k, self.match.v)
        if self.projection is None:
            rows, starts = [values.rows(h.base) for h in heads], [0, 0, 0]
        else:
            rows = [self.projection(values.source(match.stacked[0].x))] * 3
            widths = [shape_of(m.weight)[1] for m in match.stacked]
            starts = [0, widths[0], widths[0] + widths[1]]
        columns = tuple(_columns(h, start) for h, start in zip(heads, starts, strict=True))
        attended = self._attend(values, rows, columns)
        if match.mask is not None or match.q.batch > 1:
            result = replace(columns[0], is_by_position=match.is_by_position)
            attended = opaque(lambda x: side_by_side(x, result), "side_by_side", attended)
        values.put_rows(root, attended)

    def _attend(self, values: Values, rows: list[nn.Tensor], columns: tuple) -> nn.Tensor:
        match = self.match
        mask = [] if match.mask is None else [_mask(values, match)]
        distinct: list[nn.Tensor] = []
        for row in rows:
            if not any(row is other for other in distinct):
                distinct.append(row)
        order = [_at(distinct, row) for row in rows]

        def attend(*tensors: te.Tensor) -> te.Tensor:
            q, k, v = (tensors[number] for number in order)
            given = tensors[len(distinct)] if mask else None
            return attention_of_rows(
                q, k, v, columns, match.scale, self.tiles, match.is_causal, given
            )

        return opaque(attend, "attention", *distinct, *mask)


def _at(tensors: list[nn.Tensor], wanted: nn.Tensor) -> int:
    return next(number for number, tensor in enumerate(tensors) if tensor is wanted)


def _columns(heads: Heads, start: int) -> Columns:
    first = start + heads.first
    return Columns(heads.batch, heads.n, heads.heads, heads.d, first, heads.is_by_position)


def _mask(values: Values, match: AttentionMatch) -> nn.Tensor:
    """(batch or 1, 1, 1, n) -> (batch or 1, n)."""
    mask = nn.Tensor(_expr=values.expression(match.mask))
    return op.reshape(mask, [shape_of(match.mask)[0], match.k.n])
