"""Kernels of every kind on a CPU, and the least number of candidates that their rule must offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import attention_spaces
import recurrent_spaces
import tvm
from arm_kernels import Kernel
from levels import LEVELS
from matmul_spaces import gated_by_weights, times_weights
from row_spaces import centred, gated, heads, plain, quantizing, rms, row_kernel

from handglass.schedules import Rule
from handglass.schedules.choices import Open
from handglass.schedules.rule import schedule_function
from handglass.targets import Target, find_target


@dataclass(frozen=True)
class Space:
    """A kernel, made for a target, whose candidates are checked, and the least number of them."""

    make: Callable[[Target], Kernel]
    least: int


def for_any(make: Callable[[], Kernel]) -> Callable[[Target], Kernel]:
    return lambda target: make()


HEIGHTS = {"row": 1, "rows": 29}
MATMULS = {
    f"{scheme}_{name}": Space(partial(times_weights, scheme, m, 500, 256), 100)
    for scheme in ("f32", "bf16", "w4", "w4a8", "w8a8")
    for name, m in HEIGHTS.items()
} | {"f32_few": Space(partial(times_weights, "f32", 1, 32, 1024), 100)}
"""One with few outputs, too."""
GATED = Space(partial(gated_by_weights, 29, 48, 256), 100)
"""On a CPU with tiles."""
ROWS = {"norm": rms, "layer_norm": centred, "heads": heads, "gate": gated}
QUANTIZED = {
    "quantize4": partial(quantizing, plain, "w4a8"),
    "norm_quantize4": partial(quantizing, rms, "w4a8"),
    "gate_quantize8": partial(quantizing, gated, "w8a8"),
}
MADE = {name: partial(row_kernel, rows) for name, rows in ROWS.items()} | QUANTIZED
RECURRENT = {
    f"experts_{scheme}_{name}": Space(for_any(partial(recurrent_spaces.experts, scheme, m)), 100)
    for scheme in ("f32", "w4")
    for name, m in HEIGHTS.items()
} | {
    "experts_own_rows": Space(for_any(partial(recurrent_spaces.experts, "f32", 29, False)), 100),
    "delta_row": Space(for_any(partial(recurrent_spaces.delta, 1)), 20),
    "delta_rows": Space(for_any(partial(recurrent_spaces.delta, 77)), 20),
}
SPACES = {
    **RECURRENT,
    **{
        f"attention_{name}": Space(for_any(make), 200)
        for name, make in attention_spaces.SPACES.items()
    },
    **MATMULS,
    **{
        f"{kind}_{name}": Space(partial(make, m, 1152), 20)
        for kind, make in MADE.items()
        for name, m in HEIGHTS.items()
    },
}


def target_of(name: str) -> Target:
    """A preset, or the target of an instruction set."""
    return LEVELS[name].target if name in LEVELS else find_target(name)


def opened(kernel: Kernel, target: Target) -> tuple[Rule, Open]:
    """The rule that takes a kernel on a target, and its choices."""
    choices = Open()
    found = schedule_function(kernel.func, target.rules, tvm.target.Target(target.tvm), choices)
    assert found is not None
    return found[1], choices
