"""One kernel of each family for a target: its function, inputs, and expected outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tvm
from tvm import te, tirx

from handglass.compiler.models import layers
from handglass.compiler.ops import exponential, norm
from handglass.compiler.ops.attention import attention
from handglass.compiler.ops.matmul import matmul
from handglass.compiler.ops.quantize_rows import quantize_rows
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.compiler.schemes.scheme import selection_of
from handglass.schedules import apply_rules
from handglass.schedules.select import find_units
from handglass.targets import Target
from handglass.targets.codegen.build import without_alias

Arrays = list[np.ndarray]
RNG = np.random.default_rng(29)
FLOATS = ("f32", "f16", "bf16", "w4")
INTEGERS = ("w4a8", "w8a8")


@dataclass(frozen=True)
class Kernel:
    """A kernel with its `inputs` (arrays or integers) and expected `outputs`."""

    func: tirx.PrimFunc
    inputs: list[np.ndarray | int]
    outputs: Arrays
    tolerance: float = 2e-5
    """Relative to the largest magnitude of an output."""


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def placeholder(shape: Sequence[Any], dtype: str, name: str = "x") -> te.Tensor:
    """A placeholder with int64 extents, as in Relax."""
    dims = [tirx.IntImm("int64", n) if isinstance(n, int) else n for n in shape]
    return te.placeholder(dims, dtype, name=name)


def like(arrays: dict[str, np.ndarray]) -> list[te.Tensor]:
    return [placeholder(a.shape, a.dtype.name, name) for name, a in arrays.items()]


def height(m: int) -> Any:
    """The number of rows: constant if 1, else symbolic."""
    return m if m == 1 else tirx.Var("m", "int64")


def float_matmul(scheme: str, m: int, n: int = 100, k: int = 96) -> Kernel:
    """Rows (m, k) float32 times weights stored in `scheme`."""
    chosen, weight, rows = SCHEMES[scheme], normal(n, k), normal(m, k)
    parts = chosen.pack(weight)
    x, tensors = placeholder((height(m), k), "float32"), like(dict(parts))
    y = matmul(x, n, chosen.depth(k), chosen.read(tensors))
    truth = rows @ chosen.unpack(parts, n, k).T
    return Kernel(te.create_prim_func([x, *tensors, y]), [rows, *parts.values()], [truth])


def integer(scheme: str, target: Target, m: int, n: int = 100, k: int = 160) -> Kernel:
    """Integer rows (m, k) times weights of `scheme`, laid out for `target`."""
    chosen = SCHEMES[scheme].on(find_units(tvm.target.Target(target.tvm)))
    codes, weight = chosen.codes, normal(n, k)
    assert codes is not None
    parts = chosen.pack(weight)
    groups = k // 32 if codes.bits == 4 else 1
    q = RNG.integers(-127, 128, (m, k)).astype(codes.activation)
    inputs = {"x": q, "s": RNG.uniform(0.5, 2, (m, groups)).astype(np.float32)}
    if codes.zero:
        total = q.reshape(m, groups, -1).sum(-1, dtype=np.int32)
        inputs["offset"] = -codes.zero * total
    rows = height(m)
    x = [placeholder((rows, *a.shape[1:]), a.dtype.name, name) for name, a in inputs.items()]
    tensors = like(dict(parts))
    kernel = selection_of(chosen).kernel(m == 1)
    y = layers.product(chosen, kernel, (n, k), len(x), *x, *tensors)
    values = q.reshape(m, groups, -1) * (inputs["s"] * codes.magnify)[..., None].astype(np.float64)
    truth = values.reshape(m, k) @ chosen.unpack(parts, n, k).astype(np.float64).T
    func = te.create_prim_func([*x, *tensors, y])
    return Kernel(func, [*inputs.values(), *parts.values()], [truth.astype(np.float32)])


def quantizer(scheme: str, target: Target, m: int, k: int = 100) -> Kernel:
    """Quantizes float32 rows (m, k). Codes of values halfway between two may differ by one."""
    chosen = SCHEMES[scheme].on(find_units(tvm.target.Target(target.tvm)))
    codes, depth = chosen.codes, chosen.depth(k)
    assert codes is not None
    x, rows = placeholder((height(m), k), "float32"), normal(m, k)
    groups = np.pad(rows, ((0, 0), (0, depth - k))).reshape(
        m, depth // 32 if codes.bits == 4 else 1, -1
    )
    peak = np.abs(groups).max(-1, keepdims=True)
    q = np.rint(groups * (np.float32(127) / peak)).astype(np.int32)
    outputs: Arrays = [q.reshape(m, depth).astype(codes.activation)]
    outputs.append(peak[..., 0] / np.float32(127) / np.float32(codes.magnify))
    if codes.zero:
        outputs.append((-codes.zero * q.sum(-1)).astype(np.int32))
    return Kernel(te.create_prim_func([x, *quantize_rows(x, codes, depth)]), [rows], outputs, 0.011)


def row_norm(m: int, d: int = 144) -> Kernel:
    x, w = placeholder((height(m), d), "float32"), placeholder((d,), "float32", "w")
    rows, weight = normal(m, d), normal(d)
    truth = rows / np.sqrt(np.square(rows).mean(-1, keepdims=True) + 1e-5) * weight
    return Kernel(te.create_prim_func([x, w, norm.rms_norm(x, w, 1e-5)]), [rows, weight], [truth])


def gelu(m: int, d: int = 96) -> Kernel:
    x, rows = placeholder((height(m), d), "float32"), normal(m, d)
    inner = np.sqrt(2 / np.pi) * (rows + 0.044715 * rows.astype(np.float64) ** 3)
    truth = (rows * 0.5 * (1 + np.tanh(inner))).astype(np.float32)
    return Kernel(te.create_prim_func([x, exponential.gelu_tanh(x)]), [rows], [truth])


def causal_attention(s: int, heads: int = 6, kv: int = 2, d: int = 64, context: int = 64) -> Kernel:
    """Queries at positions pos .. pos + s, over a float16 cache filled up to there."""
    pos, dtype = 21, np.float16
    q, k, v = normal(s, heads, d), normal(kv, context, d), normal(kv, context, d)
    keys = k.reshape(kv, context // 16, 16, d).transpose(0, 1, 3, 2).astype(dtype)
    values = v.astype(dtype)
    length, at = height(s), tirx.Var("pos", "int64")
    x = placeholder((length, heads, d), "float32", "q")
    cache = like({"k": keys, "v": values})
    y = attention(x, cache[0], cache[1], 1 / np.sqrt(d), lambda i: at + i + 1)
    scores = np.einsum("ihe,hje->hij", q, np.repeat(k.astype(dtype), heads // kv, 0).astype("f4"))
    seen = np.arange(context) <= pos + np.arange(s)[:, None]
    weights = np.where(seen, np.exp(scores / np.sqrt(d)), 0)
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("hij,hje->ihe", weights, np.repeat(values, heads // kv, 0).astype("f4"))
    truth = mixed.reshape(s, -1).astype(np.float32)
    func = te.create_prim_func([x, *cache, at, y])
    return Kernel(func, [q, np.ascontiguousarray(keys), values, pos], [truth])


def families(target: Target) -> dict[str, Callable[[], Kernel]]:
    """Every kind of kernel in a model, for one row and for many, by name."""
    made: dict[str, Callable[[], Kernel]] = {}
    for m, rows in ((1, "row"), (13, "rows")):
        for scheme in FLOATS:
            made[f"{scheme}_{rows}"] = partial(float_matmul, scheme, m)
        for scheme in INTEGERS:
            made[f"{scheme}_{rows}"] = partial(integer, scheme, target, m)
            made[f"quantize_{scheme}_{rows}"] = partial(quantizer, scheme, target, m)
        made[f"norm_{rows}"] = partial(row_norm, m)
        made[f"gelu_{rows}"] = partial(gelu, m)
        made[f"attention_{rows}"] = partial(causal_attention, m)
    return made


def build(kernels: dict[str, Kernel], target: Target) -> tvm.runtime.Module:
    """A module with all kernels, scheduled and compiled like those of a bundle."""
    named = {n: k.func.with_attr("global_symbol", n) for n, k in kernels.items()}
    device = tvm.target.Target(target.tvm)
    with device:
        mod, _ = apply_rules(tvm.IRModule(named), target.rules, device)
        mod = without_alias().passes[1](mod)
    return tvm.compile(mod, device).mod
