"""Row kernels of every kind on a CPU target, with inputs and the results in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tvm
from arm_kernels import Kernel, height, normal, placeholder
from tvm import te

from handglass.compiler.ops import exponential, norm
from handglass.compiler.ops.quantize_rows import quantize_rows
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.schedules.isa.integer_isa import LIMIT, Codes
from handglass.schedules.select import find_units
from handglass.targets import Target

EPS = 1e-5
QUANTIZED = 0.011
"""Tolerance of codes: values halfway between two codes may differ by one."""

Rows = tuple[list[te.Tensor], list[np.ndarray], te.Tensor, np.ndarray]
"""Operands, their values, the rows computed from them, and these in numpy."""


def rms(m: int, d: int) -> Rows:
    x, w, rows, weight = _operands(m, d)
    truth = rows / np.sqrt(np.square(rows).mean(-1, keepdims=True) + EPS) * weight
    return [x, w], [rows, weight], norm.rms_norm(x, w, EPS), truth


def centred(m: int, d: int) -> Rows:
    x, w, rows, weight = _operands(m, d)
    b, bias = placeholder((d,), "float32", "b"), normal(d)
    deviation = np.sqrt(rows.var(-1, keepdims=True) + EPS)
    truth = (rows - rows.mean(-1, keepdims=True)) / deviation * weight + bias
    return [x, w, b], [rows, weight, bias], norm.layer_norm(x, w, b, EPS), truth


def heads(m: int, d: int, head_dim: int = 128) -> Rows:
    """RMSNorm of each head; the last head is only copied."""
    x, _, rows, _ = _operands(m, d)
    w, weight = placeholder((d - head_dim,), "float32", "w"), normal(d - head_dim)
    split = rows[:, : d - head_dim].reshape(m, -1, head_dim)
    normed = split / np.sqrt(np.square(split).mean(-1, keepdims=True) + EPS)
    truth = np.concatenate([normed.reshape(m, -1) * weight, rows[:, d - head_dim :]], 1)
    return [x, w], [rows, weight], norm.head_norm(x, w, head_dim, d, EPS), truth


def gated(m: int, d: int) -> Rows:
    x, rows = placeholder((height(m), 2 * d), "float32"), normal(m, 2 * d)
    gate, up = rows[:, :d].astype(np.float64), rows[:, d:]
    truth = (gate / (1 + np.exp(-gate)) * up).astype(np.float32)
    return [x], [rows], exponential.silu_gate(x), truth


def plain(m: int, d: int) -> Rows:
    x, _, rows, _ = _operands(m, d)
    return [x], [rows], x, rows


def _operands(m: int, d: int) -> tuple[te.Tensor, te.Tensor, np.ndarray, np.ndarray]:
    x, w = placeholder((height(m), d), "float32"), placeholder((d,), "float32", "w")
    return x, w, normal(m, d), normal(d)


def row_kernel(rows: Callable[[int, int], Rows], m: int, d: int, target: Target) -> Kernel:
    tensors, inputs, y, truth = rows(m, d)
    return Kernel(te.create_prim_func([*tensors, y]), [*inputs], [truth])


def quantizing(
    rows: Callable[[int, int], Rows], scheme: str, m: int, d: int, target: Target
) -> Kernel:
    """The rows, quantized for weights of a scheme."""
    codes = SCHEMES[scheme].on(find_units(tvm.target.Target(target.tvm))).codes
    assert codes is not None
    tensors, inputs, y, truth = rows(m, d)
    func = te.create_prim_func([*tensors, *quantize_rows(y, codes, d)])
    return Kernel(func, [*inputs], _quantized(truth, codes), QUANTIZED)


def _quantized(rows: np.ndarray, codes: Codes) -> list[np.ndarray]:
    m, d = rows.shape
    groups = rows.reshape(m, d // 32 if codes.bits == 4 else 1, -1)
    peak = np.abs(groups).max(-1, keepdims=True)
    q = np.rint(groups * (np.float32(LIMIT) / peak)).astype(np.int32)
    scale = peak[..., 0] / np.float32(LIMIT) / np.float32(codes.magnify)
    outputs = [q.reshape(m, d).astype(codes.activation), scale.astype(np.float32)]
    return [*outputs, (-codes.zero * q.sum(-1)).astype(np.int32)] if codes.zero else outputs
