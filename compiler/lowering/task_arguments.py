"""Arguments of a kernel on the device: tensors of the right shapes with valid random values."""

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
"""Limit of all copies together, as a phone needs memory for other processes."""
COLD_BYTES = 192 << 20
"""Exceeds the last-level cache of supported machines, so that weights are read from memory, as in a
running model."""
MOST_COPIES = 32
_INDICES = {"kind": "uniform", "low": 0, "high": 15}
"""int32 holds tokens, positions or offsets of integer sums; small values are valid for all."""
_CODES = {"kind": "uniform", "low": 1, "high": 63}
"""Valid for all integer weights and activations, including 7-bit ones."""
_NIBBLES = {"kind": "uniform", "low": 0, "high": 255}
_FADING = {"kind": "normal", "scale": 0.1}
"""For recurrent layers: a state multiplied by larger numbers at every position is soon infinite."""
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
    """Items of the device protocol, and the number of copies that keeps the caches cold."""

    items: list[Any]
    copies: int
    sizes: tuple[tuple[int, ...] | int, ...]
    itemsizes: tuple[int, ...]


def arguments_of(task: Task, lengths: Mapping[str, int]) -> Arguments:
    """The arguments of a task. Raises InputError if `lengths` lacks a length of the function."""
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
    """The arguments of a function at these lengths, as items of the device protocol."""
    items: list[Any] = []
    for param in func.params:
        if isinstance(param.ty, tirx.BufferType):
            shape = [_size(size, lengths, name) for size in param.shape]
            items.append(_tensor(shape, str(param.dtype), name, patterns))
        else:
            items.append({"int": _size(param, lengths, name)})
    return items


def copies_of(nbytes: int) -> int:
    """Number of copies such that each is evicted from the caches before it is used again."""
    wanted = min(MOST_COPIES, math.ceil(COLD_BYTES / max(nbytes, 1)))
    return max(1, min(wanted, MOST_BYTES // max(nbytes, 1)))


def _tensor(shape: list[int], dtype: str, name: str, patterns: Sequence[str]) -> dict[str, Any]:
    if dtype not in _FILLS:
        raise InputError(f"kernel {name}: arguments of type {dtype} are not supported")
    fill = _FILLS[dtype]
    if dtype == "uint8" and "dot4" in patterns:
        fill = _NIBBLES
    if dtype == "float32" and "recurrence" in patterns:
        fill = _FADING
    return {"shape": shape, "dtype": dtype, "fill": fill}


def _size(size: Any, lengths: Mapping[str, int], name: str) -> int:
    value = evaluate(size, lengths)
    if value is None:
        raise InputError(f"kernel {name}: the length {size} is not known")
    return value
