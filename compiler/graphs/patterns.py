"""Patterns of our operators in Relax, in the forms that exporters give them.

A finder takes the graph and a variable and returns a match, whose `root` is the variable that the
operator computes, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import relax
from tvm.relax.dpl import DFPattern, is_const, is_op, wildcard

from .graph import Graph, is_close, is_last_axis, scalar_of, shape_of, size_of

GELU, GELU_TANH, QUICK_GELU = "gelu", "gelu_tanh", "quick_gelu"


@dataclass(frozen=True)
class LinearMatch:
    """x W + b; W (k, n) and b (n,) are constants."""

    root: relax.Var
    x: Any
    weight: Any
    bias: Any | None


@dataclass(frozen=True)
class NormMatch:
    """Layer normalization over the last axis; weight and bias (d,) are constants."""

    root: relax.Var
    x: Any
    weight: Any
    bias: Any
    eps: float


@dataclass(frozen=True)
class ActivationMatch:
    """A form of GELU, by its name."""

    root: relax.Var
    x: Any
    kind: str


def binary(name: str) -> Callable[[DFPattern, DFPattern], DFPattern]:
    """The pattern of a commutative operator, with its operands in either order."""
    op = is_op(f"relax.{name}")
    return lambda left, right: op(left, right) | op(right, left)


plus, times = binary("add"), binary("multiply")


def find_linear(graph: Graph, var: relax.Var) -> LinearMatch | None:
    x, weight, bias = wildcard(), is_const(), is_const()
    product = is_op("relax.matmul")(x, weight)
    for pattern, has_bias in ((plus(product, bias), True), (product, False)):
        found = graph.match(pattern, var)
        if found is None:
            continue
        given, w, b = found[x], found[weight], found[bias] if has_bias else None
        if _is_linear(given, w, b):
            return LinearMatch(var, given, w, b)
    return None


def _is_linear(x: Any, weight: Any, bias: Any | None) -> bool:
    shape = shape_of(weight)
    if str(weight.ty.dtype) != "float32" or len(shape) != 2 or len(shape_of(x)) < 2:
        return False
    return bias is None or (shape_of(bias)[-1:] == shape[1:] and size_of(bias) == shape[1])


def find_norm(graph: Graph, var: relax.Var) -> NormMatch | None:
    return _whole_norm(graph, var) or _written_norm(graph, var)


def _whole_norm(graph: Graph, var: relax.Var) -> NormMatch | None:
    x, weight, bias = wildcard(), is_const(), is_const()
    found = graph.match(is_op("relax.nn.layer_norm")(x, weight, bias), var)
    if found is None:
        return None
    attrs = graph.value(var).attrs
    if not is_last_axis(attrs.axes, len(shape_of(var))):
        return None
    return NormMatch(var, found[x], found[weight], found[bias], float(attrs.epsilon))


def _written_norm(graph: Graph, var: relax.Var) -> NormMatch | None:
    """(x - mean) / sqrt(mean((x - mean)^2) + eps) * weight + bias."""
    x, weight, bias, eps, two = wildcard(), is_const(), is_const(), is_const(), is_const()
    mean = is_op("relax.mean")(x)
    centred = is_op("relax.subtract")(x, mean)
    square = is_op("relax.power")(centred, two) | is_op("relax.multiply")(centred, centred)
    variance = is_op("relax.mean")(square)
    root = is_op("relax.sqrt")(plus(variance, eps))
    inverse = is_op("relax.rsqrt")(plus(variance, eps))
    normed = is_op("relax.divide")(centred, root) | times(centred, inverse)
    found = graph.match(plus(times(normed, weight), bias), var)
    if found is None:
        return None
    rank, width = len(shape_of(found[x])), shape_of(found[x])[-1:]
    means = [graph.value(found[part]) for part in (mean, variance)]
    small = scalar_of(found[eps])
    if small is None or not all(_is_row_mean(value, rank) for value in means):
        return None
    if two in found and not is_close(scalar_of(found[two]), 2.0):
        return None
    if shape_of(found[weight]) != width or shape_of(found[bias]) != width:
        return None
    return NormMatch(var, found[x], found[weight], found[bias], small)


def _is_row_mean(value: Any, rank: int) -> bool:
    return is_last_axis(value.attrs.axis, rank) and bool(value.attrs.keepdims)


def find_activation(graph: Graph, var: relax.Var) -> ActivationMatch | None:
    for kind in (GELU, GELU_TANH):
        x = wildcard()
        if found := graph.match(is_op(f"relax.nn.{kind}")(x), var):
            return ActivationMatch(var, found[x], kind)
    for finder in (_written_gelu, _written_tanh, _written_quick):
        if match := finder(graph, var):
            return match
    return None


def _halved(x: DFPattern, half: DFPattern, other: DFPattern) -> DFPattern:
    """x / 2 times `other`, in any order of the factors."""
    return (
        times(times(x, other), half) | times(times(x, half), other) | times(x, times(other, half))
    )


def _written_gelu(graph: Graph, var: relax.Var) -> ActivationMatch | None:
    """x / 2 (1 + erf(x / sqrt(2)))."""
    x, root, inverse, one, half = wildcard(), is_const(), is_const(), is_const(), is_const()
    inner = is_op("relax.divide")(x, root) | times(x, inverse)
    pattern = _halved(x, half, plus(is_op("relax.erf")(inner), one))
    wanted = {root: 2**0.5, inverse: 0.5**0.5, one: 1.0, half: 0.5}
    return _activation(graph, var, GELU, pattern, x, wanted)


def _written_tanh(graph: Graph, var: relax.Var) -> ActivationMatch | None:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    x, three, cubic, factor, one, half = wildcard(), *(is_const() for _ in range(5))
    cube = is_op("relax.power")(x, three) | times(times(x, x), x)
    inner = times(plus(x, times(cube, cubic)), factor)
    pattern = _halved(x, half, plus(is_op("relax.tanh")(inner), one))
    wanted = {three: 3.0, cubic: 0.044715, factor: 0.7978845608028654, one: 1.0, half: 0.5}
    return _activation(graph, var, GELU_TANH, pattern, x, wanted)


def _written_quick(graph: Graph, var: relax.Var) -> ActivationMatch | None:
    """x sigmoid(1.702 x)."""
    x, steep = wildcard(), is_const()
    pattern = times(x, is_op("relax.sigmoid")(times(x, steep)))
    return _activation(graph, var, QUICK_GELU, pattern, x, {steep: 1.702})


def _activation(
    graph: Graph,
    var: relax.Var,
    kind: str,
    pattern: DFPattern,
    x: DFPattern,
    wanted: Mapping[DFPattern, float],
) -> ActivationMatch | None:
    """A match whose constants, of those that were found, are the wanted ones."""
    found = graph.match(pattern, var)
    if found is None or not isinstance(found[x], relax.Var):
        return None
    pairs = ((scalar_of(found[part]), number) for part, number in wanted.items() if part in found)
    return ActivationMatch(var, found[x], kind) if all(is_close(*pair) for pair in pairs) else None
