"""Matmuls of every kind on a CPU target, with inputs and the result in numpy."""

from __future__ import annotations

import numpy as np
import tvm
from arm_kernels import Kernel, height, integer, like, normal, placeholder
from tvm import te

from handglass.compiler.models import layers
from handglass.compiler.ops import kernels
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.compiler.schemes.scheme import selection_of
from handglass.schedules.select import INTEGERS, find_units
from handglass.targets import Target

ROUNDED = 4e-3
"""Tolerance of rows that are rounded to bfloat16."""


def times_weights(scheme: str, m: int, n: int, k: int, target: Target) -> Kernel:
    """m rows (symbolic if several) times n x k weights of `scheme`, with the target's kernel."""
    stored = SCHEMES[scheme].on(find_units(tvm.target.Target(target.tvm)))
    kernel = selection_of(stored).kernel(m == 1)
    if kernel.activations == INTEGERS:
        return integer(scheme, target, m, n, k)
    weight, rows = normal(n, k), normal(m, k)
    parts = stored.pack(weight)
    x, tensors = placeholder((height(m), k), "float32"), like(dict(parts))
    y = layers.product(stored, kernel, (n, k), 1, x, *tensors)
    truth = rows @ stored.unpack(parts, n, k).T
    tolerance = ROUNDED if kernel.activations == "bfloat16" else 2e-5
    func = te.create_prim_func([x, *tensors, y])
    return Kernel(func, [rows, *parts.values()], [truth], tolerance)


def gated_by_weights(m: int, f: int, k: int, target: Target) -> Kernel:
    """m rows times f gates and f values of `w4a8`, with the kernel of tiles that applies gates."""
    stored = SCHEMES["w4a8"].on(find_units(tvm.target.Target(target.tvm)))
    assert kernels.has_gated(selection_of(stored).kernel(m == 1), f)
    weight, rows = normal(2 * f, k), normal(m, k)
    parts = stored.pack(weight)
    x, tensors = placeholder((height(m), k), "float32"), like(dict(parts))
    y = kernels.multiply_gated(layers.weight_of(stored, (2 * f, k), tensors), [x])
    gate, up = np.split(rows @ stored.unpack(parts, 2 * f, k).T, 2, axis=1)
    func = te.create_prim_func([x, *tensors, y])
    return Kernel(func, [rows, *parts.values()], [gate / (1 + np.exp(-gate)) * up], 2 * ROUNDED)
