"""Attention in a graph: softmax(q k^T * scale + bias) v, as exporters write it out.

The core is a pattern; where its operands come from and where its result goes is followed by
layout.py. A bias is recognised if our operator has it: none (all zeros), causal (a constant
triangle), or one number per position of the keys, as masks of padded texts are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.dpl import is_const, is_op, wildcard

from .graph import Graph, array_of, is_constant, is_last_axis, name_of, scalar_of, shape_of, size_of
from .layout import LARGEST, Heads, heads_of, onward, rows_of
from .patterns import LinearMatch, plus, times

BLOCKED = -1e4
"""A bias from here on down leaves no weight."""


@dataclass(frozen=True)
class AttentionMatch:
    """`root` has the rows (batch * n, heads * d) of all heads, side by side."""

    root: relax.Var
    is_by_position: bool
    """How the rows of `root` are ordered, as in `Heads`."""
    q: Heads
    k: Heads
    v: Heads
    scale: float
    is_causal: bool
    mask: Any | None
    """An expression (batch or 1, 1, 1, n) that is added to the scores."""
    stacked: tuple[LinearMatch, ...] = ()
    """The projections of q, k and v, if all are products of the same rows."""


class NotOursError(Exception):
    """Attention of a kind that our operator does not have; the text says which."""


def find_attention(graph: Graph, var: relax.Var) -> AttentionMatch | None:
    """The match whose last product is `var`; its root may be a later rearrangement.

    Raises NotOursError.
    """
    parts = _core(graph, var)
    if parts is None:
        return None
    q, k = heads_of(graph, parts.q), heads_of(graph, parts.k, is_transposed=True)
    v = heads_of(graph, parts.v)
    if q is None or k is None or v is None:
        raise NotOursError("attention whose heads are not columns of rows")
    if k.n != v.n or not (
        q.batch == k.batch == v.batch and q.heads == k.heads == v.heads and q.d == k.d == v.d
    ):
        raise NotOursError("attention of operands with different heads")
    root, is_by_position = _merged(graph, var, q)
    is_causal, mask = _bias(graph, parts.bias, q, k)
    scale = q.scale * k.scale * parts.scale
    return AttentionMatch(root, is_by_position, q, k, v, scale, is_causal, mask)


@dataclass(frozen=True)
class _Core:
    q: Any
    k: Any
    v: Any
    scale: float
    bias: Any | None


def _core(graph: Graph, var: relax.Var) -> _Core | None:
    """The parts of softmax(q k * scale + bias) v, in which exporters may replace NaN by 0."""
    q, k, v, bias, seen = (wildcard() for _ in range(5))
    factor, divisor, zero, low = (is_const() for _ in range(4))
    where = is_op("relax.where")
    scores = is_op("relax.matmul")(q, k)
    scaled = times(scores, factor) | is_op("relax.divide")(scores, divisor) | scores
    kept, filled = where(seen, scaled, low), where(seen, low, scaled)
    weights = is_op("relax.nn.softmax")(scaled | plus(scaled, bias) | kept | filled)
    mended = where(is_op("relax.isnan")(weights), zero, weights)
    found = graph.match(is_op("relax.matmul")(weights | mended, v), var)
    if found is None or not _is_over_keys(graph, found[weights]):
        return None
    numbers = {part: scalar_of(found[part]) for part in (factor, divisor, zero) if part in found}
    times_, over = numbers.get(factor, 1.0), numbers.get(divisor, 1.0)
    if not times_ or not over or numbers.get(zero, 0.0) != 0.0:
        return None
    added = found.get(bias)
    if seen in found:
        added = _as_bias(found[seen], found[low], is_seen=kept in found)
    return _Core(found[q], found[k], found[v], times_ / over, added)


def _as_bias(seen: Any, low: Any, is_seen: bool) -> Any:
    """A low number in place of scores, as a bias. Raises NotOursError for another number."""
    number = scalar_of(low)
    if number is None or number > BLOCKED:
        raise NotOursError("attention with scores that are replaced by other numbers")
    pair = (relax.const(0.0), low) if is_seen else (low, relax.const(0.0))
    return relax.BlockBuilder().normalize(relax.op.where(seen, *pair))


def _is_over_keys(graph: Graph, weights: Any) -> bool:
    value = graph.value(weights)
    return is_last_axis([value.attrs.axis], len(shape_of(value)))


def _merged(graph: Graph, var: relax.Var, q: Heads) -> tuple[relax.Var, bool]:
    """The variable that has the results of all heads side by side, and whether by positions.

    Raises NotOursError.
    """
    size = q.batch * q.n * q.heads * q.d
    if size_of(var) == size <= LARGEST:
        columns = np.arange(q.heads * q.d).reshape(1, q.heads, 1, q.d)
        for is_by_position in (False, True):
            rows = rows_of(q.batch, q.n, is_by_position)[:, None, :, None] * (q.heads * q.d)
            start = (rows + columns).reshape(shape_of(var))
            for later, numbers in onward(graph, var, start):
                if numbers.shape[-1] == q.heads * q.d and _is_in_order(numbers):
                    return later, is_by_position
    raise NotOursError("attention whose heads are not put side by side")


def _is_in_order(numbers: np.ndarray) -> bool:
    return np.array_equal(numbers.ravel(), np.arange(numbers.size))


def _bias(graph: Graph, bias: Any | None, q: Heads, k: Heads) -> tuple[bool, Any | None]:
    """(whether it is causal, the mask) of what is added to the scores."""
    if bias is None or _is_zero(bias):
        return False, None
    if q.n == k.n and _is_triangle(bias, q.n):
        return True, None
    mask = narrowed(graph, bias)
    if mask is None or shape_of(mask)[-3:] != (1, 1, k.n) or len(shape_of(mask)) != 4:
        raise NotOursError("attention with a bias of its own for each pair of positions")
    return False, mask


def _is_zero(bias: Any) -> bool:
    return is_constant(bias) and not array_of(bias).any()


def _is_triangle(bias: Any, n: int) -> bool:
    if not is_constant(bias) or shape_of(bias)[-2:] != (n, n):
        return False
    tables = array_of(bias).reshape(-1, n, n)
    later = np.triu(np.ones((n, n), bool), 1)
    return bool((tables[:, ~later] == 0).all() and (tables[:, later] <= BLOCKED).all())


POINTWISE = frozenset(
    ("add", "subtract", "multiply", "divide", "where", "astype", "logical_not", "equal", "less")
)


def narrowed(graph: Graph, expr: Any) -> Any | None:
    """The expression with one row in place of all queries, if they are equal: axis -2 has size 1.

    A new expression over variables of the graph; None if the rows may differ.
    """
    shape = shape_of(expr)
    if len(shape) < 2 or shape[-2] == 1:
        return expr
    if is_constant(expr):
        rows = array_of(expr)
        equal = (rows == rows[..., :1, :]).all()
        return relax.const(np.ascontiguousarray(rows[..., :1, :])) if equal else None
    value = graph.value(expr)
    name = name_of(value)
    if name == "broadcast_to":
        return narrowed(graph, value.args[0])
    if name == "logical_and":
        return _narrowed_and(graph, value)
    if name not in POINTWISE:
        return None
    parts = [narrowed(graph, arg) for arg in value.args]
    if any(part is None for part in parts):
        return None
    return relax.BlockBuilder().normalize(relax.Call(value.op, parts, value.attrs))


def _narrowed_and(graph: Graph, value: relax.Call) -> Any | None:
    """A table that is true everywhere changes nothing."""
    parts = [arg for arg in value.args if not (is_constant(arg) and array_of(arg).all())]
    found = [narrowed(graph, part) for part in parts]
    if not found or any(part is None for part in found):
        return None
    if len(found) == 1:
        return found[0]
    return relax.BlockBuilder().normalize(relax.Call(value.op, found, value.attrs))
