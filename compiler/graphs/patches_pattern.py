"""Convolutions that cut pictures into patches, whose stride is the size of their kernel: they are
products of matrices with one row per patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.dpl import is_const, is_op, wildcard

from .graph import Graph, shape_of, size_of
from .layout import LARGEST, onward
from .patterns import plus


@dataclass(frozen=True)
class PatchesMatch:
    """`root` has a row (n,) for each patch, in the order picture, row, column."""

    root: relax.Var
    x: Any
    weight: Any
    """(n, channels, height, width)."""
    bias: Any | None


def find_patches(graph: Graph, var: relax.Var) -> PatchesMatch | None:
    """The match whose convolution, or the addition of its bias, is `var`."""
    x, weight, bias = wildcard(), is_const(), is_const()
    product = is_op("relax.nn.conv2d")(x, weight)
    for pattern, has_bias in ((plus(product, bias), True), (product, False)):
        found = graph.match(pattern, var)
        if found is None or not _cuts(graph.value(found[product]), found[weight]):
            continue
        added = found[bias] if has_bias else None
        if _per_channel(added, var) and (root := _rows(graph, var)) is not None:
            return PatchesMatch(root, found[x], found[weight], added)
    return None


def _cuts(value: Any, weight: Any) -> bool:
    attrs, (_, channels, height, width) = value.attrs, shape_of(weight)
    shape = shape_of(value.args[0])
    return (
        str(weight.ty.dtype) == "float32"
        and attrs.data_layout == "NCHW"
        and attrs.kernel_layout == "OIHW"
        and [int(n) for n in attrs.strides] == [height, width]
        and not any(int(n) for n in attrs.padding)
        and all(int(n) == 1 for n in attrs.dilation)
        and int(attrs.groups) == 1
        and shape[1] == channels
        and height * width > 1
    )


def _per_channel(bias: Any | None, var: relax.Var) -> bool:
    channels = shape_of(var)[1]
    return bias is None or (size_of(bias) == channels and shape_of(bias)[-3:] == (channels, 1, 1))


def _rows(graph: Graph, var: relax.Var) -> relax.Var | None:
    """The variable that has the patches as rows."""
    if size_of(var) > LARGEST:
        return None
    batch, n, height, width = shape_of(var)
    rows = np.arange(size_of(var)).reshape(batch, height, width, n)
    for later, numbers in onward(graph, var, rows.transpose(0, 3, 1, 2)):
        if numbers.shape[-1] == n and np.array_equal(numbers.ravel(), rows.ravel()):
            return later
    return None
