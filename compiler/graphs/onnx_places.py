"""Constant indices of a graph must lie inside what they index: neither the importer's evaluation of
constants nor compiled code checks them, so they could read anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handglass.errors import InputError

ALONG_AXIS = ("Gather", "GatherElements", "ScatterElements")
"""Operators whose second operand has places along one axis of the first."""
TUPLES = ("GatherND", "ScatterND")
"""Operators whose second operand has the first coordinates of places."""


def check_places(
    node: Any, known: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]]
) -> None:
    """Raise InputError for constant indices beyond the operand, or where that cannot be known."""
    if node.op_type not in (*ALONG_AXIS, *TUPLES) or len(node.input) < 2:
        return
    data, places = node.input[0], known.get(node.input[1])
    if places is None:
        return
    shape = known[data].shape if data in known else shapes.get(data)
    if shape is None:
        raise InputError("indexes an operand whose sizes are unknown")
    given = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type in ALONG_AXIS:
        limits = _sizes(shape, [given.get("axis", 0)])
    else:
        first = given.get("batch_dims", 0)
        width = places.shape[-1] if places.ndim else 1
        limits = _sizes(shape, range(first, first + width))
    if (places >= limits).any() or (places < -limits).any():
        raise InputError(f"has indices beyond its operand of shape {list(shape)}")


def _sizes(shape: Sequence[int], axes: Sequence[int]) -> np.ndarray:
    if not all(-len(shape) <= axis < len(shape) for axis in axes):
        raise InputError(f"indexes the axes {list(axes)} of an operand of shape {list(shape)}")
    return np.array([shape[axis] for axis in axes], np.int64)
