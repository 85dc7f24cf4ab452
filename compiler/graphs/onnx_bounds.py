"""Bounds of the tensors of an ONNX file."""

from __future__ import annotations

import math
from collections.abc import Sequence

from handglass.errors import InputError

MAX_RANK = 8
MAX_ELEMENTS = 1 << 31
"""Of one tensor."""


def elements(name: str, dims: Sequence[int]) -> int:
    """The number of elements of a shape. Raises InputError for one out of bounds."""
    if len(dims) > MAX_RANK or any(not 0 <= n <= MAX_ELEMENTS for n in dims):
        raise InputError(f"{name} has the shape {list(dims[:MAX_RANK])}, which is out of bounds")
    if (count := math.prod(dims)) > MAX_ELEMENTS:
        raise InputError(f"{name} has {count} elements, but at most {MAX_ELEMENTS} are supported")
    return count
