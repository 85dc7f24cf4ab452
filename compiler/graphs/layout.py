"""Where elements go: exporters reshape and transpose the same heads by different routes.

Patterns would have to list the routes, so they are followed by a visitor instead: an array of
numbers takes the same way as the tensor, and what arrives tells whether the layout is the one that
our operator reads or writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax

from .graph import Graph, array_of, is_constant, name_of, scalar_of, shape_of, size_of

LARGEST = 1 << 26
"""Elements of a tensor whose way is followed."""


@dataclass(frozen=True)
class Heads:
    """An operand (batch, heads, n, d) of attention: columns `first` to `first + heads * d` of the
    rows of `base`, (batch * n, width), times `scale`.

    Rows are by sequences, or by positions if `is_by_position`: all first ones, all second ones.
    """

    base: Any
    first: int
    scale: float
    batch: int
    heads: int
    n: int
    d: int
    is_by_position: bool = False


def heads_of(graph: Graph, operand: Any, is_transposed: bool = False) -> Heads | None:
    """The heads that `operand` has, (..., n, d), or (..., d, n) if `is_transposed`; None if its
    elements come from anything but the columns of rows."""
    base, steps, scale = _way_back(graph, operand)
    shape = shape_of(base)
    if not steps or len(shape) < 2 or size_of(base) > LARGEST:
        return None
    numbers = np.arange(size_of(base)).reshape(shape)
    for step in reversed(steps):
        numbers = moved(step, numbers)
    if numbers.ndim < 2:
        return None
    if is_transposed:
        numbers = numbers.swapaxes(-1, -2)
    return _found(numbers, base, scale)


def _found(numbers: np.ndarray, base: Any, scale: float) -> Heads | None:
    """The heads in which the elements of `base` have arrived, (..., n, d)."""
    (n, d), width = numbers.shape[-2:], shape_of(base)[-1]
    batch = size_of(base) // width // n
    heads = numbers.size // (batch * n * d) if batch else 0
    first = int(numbers.reshape(-1)[0])
    if not heads or batch * heads * n * d != numbers.size or first + heads * d > width:
        return None
    columns = first + np.arange(heads * d).reshape(1, heads, 1, d)
    for is_by_position in (False, True):
        wanted = rows_of(batch, n, is_by_position)[:, None, :, None] * width + columns
        if np.array_equal(numbers.reshape(wanted.shape), wanted):
            return Heads(base, first, scale, batch, heads, n, d, is_by_position)
    return None


def rows_of(batch: int, n: int, is_by_position: bool) -> np.ndarray:
    """The row of each position of each sequence, (batch, n)."""
    rows = np.arange(batch * n)
    return rows.reshape(n, batch).T if is_by_position else rows.reshape(batch, n)


def _way_back(graph: Graph, operand: Any) -> tuple[Any, list[relax.Call], float]:
    """What `operand` is a rearrangement of, the steps (last one first), and the factor."""
    steps, scale = [], 1.0
    while True:
        value = graph.value(operand)
        factor = factor_of(value)
        if factor is not None:
            operand, scale = factor[0], scale * factor[1]
        elif is_step(value):
            steps.append(value)
            operand = value.args[0]
        else:
            return operand, steps, scale


def factor_of(value: Any) -> tuple[Any, float] | None:
    """(x, c) of x c, c x and x / c with a constant number c."""
    name = name_of(value)
    if name not in ("multiply", "divide"):
        return None
    left, right = value.args
    if (number := scalar_of(right)) is not None and not is_constant(left):
        if size_of(left) != size_of(value) or (name == "divide" and number == 0):
            return None
        return left, number if name == "multiply" else 1 / number
    if name == "multiply" and (number := scalar_of(left)) is not None:
        return (right, number) if size_of(right) == size_of(value) else None
    return None


def is_step(value: Any) -> bool:
    """Whether a value is a rearrangement of its first operand, or a part of it."""
    if name_of(value) == "take":
        return is_constant(value.args[1]) and value.attrs.axis is not None
    return name_of(value) in ("reshape", "permute_dims", "squeeze", "expand_dims")


def moved(step: relax.Call, numbers: np.ndarray) -> np.ndarray:
    """The numbers after a step."""
    if name_of(step) == "permute_dims":
        axes = step.attrs.axes
        return numbers.transpose(None if axes is None else [int(axis) for axis in axes])
    if name_of(step) == "take":
        return numbers.take(array_of(step.args[1]), axis=int(step.attrs.axis), mode="clip")
    return numbers.reshape(shape_of(step))


def onward(
    graph: Graph, var: relax.Var, numbers: np.ndarray
) -> Iterator[tuple[relax.Var, np.ndarray]]:
    """`var` and the rearrangements that follow, as long as each is all that the one before is used
    for, with the numbers that arrive."""
    yield var, numbers
    while len(users := graph.users[var]) == 1 and not users[0].same_as(var):
        (var,) = users
        step = graph.value(var)
        if not is_step(step) or name_of(step) == "take":
            return
        numbers = moved(step, numbers)
        yield var, numbers
