"""Attention, lowered and scheduled for this machine, against a few lines of numpy.

The functions are those that models use; lengths end inside, at and after a panel, a tile of rows
and a chunk of positions.
"""

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from attention_reference import (
    CAUSAL,
    CONTEXT,
    LENGTHS,
    as_kept,
    attend,
    cache_of,
    check,
    normal,
    rotated,
)
from thinned import only, thinned
from tvm import relax, te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.compiler.lowering.phases import lower
from handglass.compiler.ops import cache as cache_op
from handglass.compiler.ops import rotary
from handglass.compiler.ops.attention import attention, head_major, key_panels
from handglass.compiler.ops.layout import Layout, key_shape, scale_shape
from handglass.targets import find_target
from handglass.targets.codegen.build import without_alias

pytestmark = [pytest.mark.compiler, pytest.mark.levels, pytest.mark.slow]

Kernel = Callable[..., np.ndarray]


def build(compute: Callable, *arguments: tuple[tuple, str]) -> Kernel:
    """Compile a function of arguments (shape, dtype). Strings in shapes are symbolic lengths; the
    shape () is an integer."""
    sizes: dict[str, tirx.Var] = {}
    variables, inputs = [], []
    for number, (shape, dtype) in enumerate(arguments):
        dims = [
            sizes.setdefault(n, tirx.Var(n, "int64")) if isinstance(n, str) else n for n in shape
        ]
        if dims:
            variables.append(relax.Var(f"x{number}", relax.TensorType(dims, dtype)))
            inputs.append(variables[-1])
        else:
            inputs.append(tirx.Var(f"n{number}", "int64"))
            variables.append(relax.Var(f"x{number}", relax.ShapeType([inputs[-1]])))
    builder = relax.BlockBuilder()
    with builder.function("main", variables):
        with builder.dataflow():
            result = builder.emit_te(compute, *inputs, primfunc_attrs={"op_pattern": 8})
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    return load(builder.get())


def load(mod: tvm.IRModule) -> Kernel:
    target = find_target("host")
    lowered = lower(mod, target)
    tvm_target = tvm.target.Target(target.tvm)
    built = relax.build(lowered.mod, tvm_target, relax_pipeline=without_alias())
    machine = relax.VirtualMachine(built, tvm.cpu())

    def run(*arrays: np.ndarray | int) -> np.ndarray:
        shape = lambda n: tvm.runtime.ShapeTuple([n])  # noqa: E731 (one of two cases below)
        given = [shape(a) if isinstance(a, int) else tvm.runtime.tensor(a) for a in arrays]
        return machine["main"](*given).numpy()

    return run


# --- no mask: vision, resampler ---


def build_full(s: int | str, heads: int, kv_heads: int, d: int) -> Kernel:
    def compute(q: te.Tensor, k: te.Tensor, v: te.Tensor) -> te.Tensor:
        n = k.shape[0]
        return attention(q, key_panels(k), head_major(v), d**-0.5, lambda i: n)

    kv = (("n", kv_heads, d), "float32")
    return build(compute, ((s, heads, d), "float32"), kv, kv)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "d"),
    thinned(2, [(2, 2, 72), (6, 2, 64), (2, 2, 8), (4, 2, 62), (3, 1, 20)]),
)
def test_full(heads: int, kv_heads: int, d: int) -> None:
    compiled = build_full("s", heads, kv_heads, d)
    for n in LENGTHS:
        for s in (1, 5, 64):
            q, k, v = normal(s, heads, d), normal(n, kv_heads, d), normal(n, kv_heads, d, seed=8)
            check(compiled(q, k, v), attend(q, k, v))


@pytest.mark.parametrize("s", thinned(2, [1, 5, 10, 64]))
def test_full_with_a_fixed_number_of_queries(s: int) -> None:
    compiled = build_full(s, 4, 2, 24)
    for n in LENGTHS:
        q, k, v = normal(s, 4, 24), normal(n, 2, 24), normal(n, 2, 24, seed=8)
        check(compiled(q, k, v), attend(q, k, v))


def test_huge_scores() -> None:
    """One score exceeds the others by thousands: their weights are zero, without overflow."""
    q, k, v = normal(4, 2, 8) * 300, normal(333, 2, 8) * 300, normal(333, 2, 8)
    check(build_full("s", 2, 2, 8)(q, k, v), attend(q, k, v), 1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_no_number_spoils_only_itself(bad: float) -> None:
    q, k, v = normal(14, 2, 16), normal(40, 2, 16), normal(40, 2, 16, seed=8)
    truth = attend(q, k, v)
    q[3, 1, 5] = bad
    actual = build_full("s", 2, 2, 16)(q, k, v)
    assert not np.isfinite(actual[3, 16:]).all()
    actual[3, 16:] = truth[3, 16:]
    check(actual, truth)


# --- the decoder: a cache and a causal mask ---


def cache_arguments(layout: Layout, dtype: str) -> list[tuple[tuple, str]]:
    h_kv, d = layout.kv_heads, layout.head_dim
    scales = [(scale_shape(h_kv, CONTEXT), "float32")] * 2
    tensors = [(key_shape(h_kv, CONTEXT, d), dtype), ((h_kv, CONTEXT, d), dtype)]
    return tensors + (scales if dtype == "int8" else [])


def build_causal(s: int | str, layout: Layout, dtype: str) -> Kernel:
    return build(
        lambda qkv, table, pos, *cache: rotary.causal_attention(qkv, table, cache, pos, layout),
        ((s, layout.width), "float32"),
        ((CONTEXT, layout.head_dim), "float32"),
        ((), "int64"),
        *cache_arguments(layout, dtype),
    )


CACHED = ["float32", "float16", "int8"]
CASES = [(*shape, dtype) for shape in CAUSAL for dtype in CACHED]


@pytest.mark.parametrize(
    ("heads", "kv_heads", "d", "dtype"),
    only([(*CAUSAL[n], dtype) for n, dtype in enumerate(CACHED)], CASES),
)
def test_causal(heads: int, kv_heads: int, d: int, dtype: str) -> None:
    """The cache is NaN after the last position, which must not affect the result."""
    layout = Layout(heads, kv_heads, d)
    table = rotary.table(CONTEXT, d, 10000.0)
    for rows, sizes in ((1, [1]), ("s", [1, 2, 5, 7, 64])):
        compiled = build_causal(rows, layout, dtype)
        for s in sizes:
            for pos in (0, 1, 15, 16, 333):
                q = normal(s, heads, d)
                k, v = (normal(pos + s, kv_heads, d, seed=i) for i in (8, 9))
                rest = np.zeros((s, 2 * kv_heads * d), np.float32)
                qkv = np.concatenate([q.reshape(s, -1), rest], axis=1)
                actual = compiled(qkv, table, pos, *cache_of(k, v, np.nan, dtype))
                turned = rotated(q, table[pos : pos + s])
                truth = attend(turned, as_kept(k, dtype), as_kept(v, dtype), pos)
                check(actual, truth)


def test_a_value_that_is_no_number_spoils_only_those_who_see_it() -> None:
    layout, s, bad = Layout(4, 2, 16), 40, 21
    q, k, v = normal(s, 4, 16), normal(s, 2, 16), normal(s, 2, 16, seed=8)
    table = rotary.table(CONTEXT, 16, 10000.0)
    truth = attend(rotated(q, table[:s]), k, v, 0)
    k[bad], v[bad] = np.nan, np.inf
    qkv = np.concatenate([q.reshape(s, -1), np.zeros((s, 64), np.float32)], axis=1)
    actual = build_causal("s", layout, "float32")(qkv, table, 0, *cache_of(k, v, 0.0, "float32"))
    assert not np.isfinite(actual[bad:]).any()
    check(actual[:bad], truth[:bad])


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("one", [False, True])
def test_append(dtype: str, one: bool) -> None:
    """Rotated keys and plain values are written where attention reads them, and nowhere else."""
    layout, s, pos = Layout(2, 3, 8), 1 if one else 21, 13
    table = rotary.table(CONTEXT, 8, 10000.0)
    qkv = normal(s, layout.width)
    k, v = (part.reshape(s, 3, 8) for part in np.split(qkv[:, 16:], 2, axis=1))
    k = rotated(k, table[pos : pos + s]).astype(np.float32)
    expected = cache_of(k, v, 0.0, dtype, pos)
    for actual, truth in zip(append(layout, dtype, one)(qkv, table, pos), expected, strict=True):
        assert (actual.shape, actual.dtype) == (truth.shape, truth.dtype)
        unit = {"float16": 2e-3, "int8": 1}.get(truth.dtype.name, 1e-6)  # of rounding
        assert np.abs(actual.astype("f8") - truth.astype("f8")).max() <= unit
        assert np.abs(actual.astype("f8") - truth.astype("f8")).mean() < unit / 20


def append(layout: Layout, dtype: str, one: bool) -> Callable[..., list[np.ndarray]]:
    """(qkv, table, pos) -> the tensors of a cache that held zeros."""
    tensors = cache_arguments(layout, dtype)
    lowered, target = appending(layout, dtype, one), find_target("host")
    built = relax.build(lowered, tvm.target.Target(target.tvm))
    machine = relax.VirtualMachine(built, tvm.cpu())

    def run(qkv: np.ndarray, table: np.ndarray, pos: int) -> list[np.ndarray]:
        cache = [tvm.runtime.tensor(np.zeros(shape, kind)) for shape, kind in tensors]
        given = map(tvm.runtime.tensor, (qkv, table))
        machine["run"](*given, tvm.runtime.ShapeTuple([pos]), cache)
        return [tensor.numpy() for tensor in cache]

    return run


def test_to_append_one_row_starts_no_threads() -> None:
    layout = Layout(24, 8, 64)
    one, many = (appending(layout, "float16", is_one).script() for is_one in (True, False))
    assert "T.parallel" in many and "T.parallel" not in one


def appending(layout: Layout, dtype: str, one: bool) -> tvm.IRModule:
    """The lowered module whose function `run` appends to a cache."""

    class Appending(nn.Module):
        def run(self, qkv, table, pos, cache):  # type: ignore[no-untyped-def]
            return cache_op.append(cache, qkv, table, pos, layout)

    tensors = cache_arguments(layout, dtype)
    mod, _ = Appending().export_tvm(
        {
            "run": {
                "qkv": spec.Tensor([1 if one else "s", layout.width], "float32"),
                "table": spec.Tensor([CONTEXT, layout.head_dim], "float32"),
                "pos": int,
                "cache": [spec.Tensor(shape, kind) for shape, kind in tensors],
                "$": {"param_mode": "none", "effect_mode": "none"},
            }
        }
    )
    return lower(mod, find_target("host")).mod
