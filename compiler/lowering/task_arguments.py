"""What a kernel is given on the device: tensors of the right shapes with harmless random values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from handglass.errors import InputError

from .lengths import evaluate
from .tasks import Task

MOST_BYTES = 512 << 20
"""Of all copies together: a phone has other things to keep in memory."""
COLD_BYTES = 192 << 20
"""More than the last-level cache of what we run on, so that weights come from memory as they do
when a model runs."""
MOST_COPIES = 32
_INDICES = {"kind": "uniform", "low": 0, "high": 15}
"""int32 is a token, a position or an offset of integer sums: any of them may be small."""
_CODES = {"kind": "uniform", "low": 1, "high": 63}
"""Of all integer weights and activations, also of those that keep to seven bits."""
_NIBBLES = {"kind": "uniform", "low": 0, "high": 255}
_FILLS: dict[str, dict[str, Any]] = {
    "float32": {"kind": "normal", "scale": 1.0},
    "float16": {"kind": "normal", "scale": 0.1},
    "uint16": {"kind": "bfloat16", "scale": 0.1},
    "uint32": {"kind": "bfloat16", "scale": 0.1},
    "int32": _INDICES,
    "int64": _INDICES,
    "int8": _CODES,
    "uint8": _CODES,
}


@dataclass(frozen=True)
class Arguments:
    """Items as the device protocol has them, and how many copies keep the caches cold."""

    items: list[Any]
    copies: int
    sizes: tuple[tuple[int, ...] | int, ...]
    itemsizes: tuple[int, ...]


def arguments_of(task: Task, lengths: Mapping[str, int]) -> Arguments:
    """InputError where a length of the function is not among `lengths`."""
    items = items_of(task.func, task.name, task.kernel.patterns, lengths)
    sizes = tuple(i["int"] if "int" in i else tuple(i["shape"]) for i in items)
    itemsizes = tuple(np.dtype(i.get("dtype", "int64")).itemsize for i in items)
    one = sum(
        math.prod(size) * itemsize
        for size, itemsize in zip(sizes, itemsizes, strict=True)
        if not isinstance(size, int)
    )
    return Arguments(items, copies_of(one), sizes, itemsizes)


def items_of(
    func: tirx.PrimFunc, name: str, patterns: Sequence[str], lengths: Mapping[str, int]
) -> list[Any]:
    """What the device protocol calls items, of a function at these lengths."""
    items: list[Any] = []
    for param in func.params:
        if isinstance(param.ty, tirx.BufferType):
            shape = [_size(size, lengths, name) for size in param.shape]
            items.append(_tensor(shape, str(param.dtype), name, patterns))
        else:
            items.append({"int": _size(param, lengths, name)})
    return items


def copies_of(nbytes: int) -> int:
    """So many that one after the other is out of the caches again when its turn comes."""
    wanted = min(MOST_COPIES, math.ceil(COLD_BYTES / max(nbytes, 1)))
    return max(1, min(wanted, MOST_BYTES // max(nbytes, 1)))


def _tensor(shape: list[int], dtype: str, name: str, patterns: Sequence[str]) -> dict[str, Any]:
    if dtype not in _FILLS:
        raise InputError(f"kernel {name}: no values for an argument of type {dtype}")
    packed = dtype == "uint8" and "dot4" in patterns
    return {"shape": shape, "dtype": dtype, "fill": _NIBBLES if packed else _FILLS[dtype]}


def _size(size: Any, lengths: Mapping[str, int], name: str) -> int:
    found = evaluate(size, lengths)
    if found is None:
        raise InputError(f"kernel {name}: the length {size} is not known")
    return found
