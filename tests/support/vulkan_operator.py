"""Operators compiled for a GPU: built for the target, scheduled by our rules, and run.

`build(compute, x, y)(array, array, out=[(shape, dtype)])` runs on the GPU and returns the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from operator_device import KIND
from tvm import te, tirx
from vulkan_running import runnable, tvm_target
from vulkan_targets import PORTABLE

from handglass.schedules import RULES_BY_KIND
from handglass.schedules.choices import DEFAULTS, Choices
from handglass.schedules.rule import schedule_function

Shaped = tuple[Sequence[Any], str]
"""Shape and dtype; names in shapes are symbolic, the shape () is an integer argument."""
Kernel = Callable[..., list[np.ndarray]]


def written(
    compute: Callable, *arguments: Shaped, target: Mapping[str, Any] = PORTABLE
) -> tirx.PrimFunc:
    """The unscheduled function of the operator."""
    sizes: dict[str, tirx.Var] = {}

    def argument(number: int, shape: Sequence[Any], dtype: str) -> te.Tensor | tirx.Var:
        if not shape:
            return tirx.Var(f"n{number}", dtype)
        known = [
            sizes.setdefault(n, tirx.Var(n, "int64")) if isinstance(n, str) else n for n in shape
        ]
        return te.placeholder(known, dtype, name=f"x{number}")

    with tvm_target(target):
        inputs = [argument(number, *shaped) for number, shaped in enumerate(arguments)]
        result = compute(*inputs)
        results = list(result) if isinstance(result, list | tuple) else [result]
        return te.create_prim_func([*inputs, *results])


def scheduled(
    func: tirx.PrimFunc, choices: Choices = DEFAULTS, target: Mapping[str, Any] = PORTABLE
) -> tuple[tirx.PrimFunc, str]:
    """Schedule the function by the first rule that takes it. Returns it with the rule's name."""
    found = schedule_function(func, RULES_BY_KIND[KIND], tvm_target(target), choices)
    assert found is not None
    return found[0].mod["main"], found[1].name


def build(
    compute: Callable,
    *arguments: Shaped,
    choices: Choices = DEFAULTS,
    target: Mapping[str, Any] = PORTABLE,
) -> Callable[..., list[np.ndarray]]:
    """Build a function of the inputs, and `out`, the (shape, dtype) of each result."""
    func, _ = scheduled(written(compute, *arguments, target=target), choices, target)
    kernel = runnable(func, target)

    def call(*inputs: np.ndarray | int, out: Sequence[Shaped]) -> list[np.ndarray]:
        unset = [np.full(shape, 77, dtype) for shape, dtype in out]
        return kernel(*inputs, *unset)[-len(unset) :]

    return call


def check(actual: np.ndarray, truth: np.ndarray, tolerance: float = 2e-6) -> None:
    assert actual.shape == truth.shape
    scale = max(1e-6, float(np.abs(truth).max()))
    assert np.abs(actual.astype(np.float64) - truth).max() <= tolerance * scale


def normal(*shape: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape, np.float32)
