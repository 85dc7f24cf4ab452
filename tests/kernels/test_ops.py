"""Each operator, lowered and scheduled for this machine, against a line of numpy on odd sizes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from as_stored import ROUND

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from tvm import relax, te, tirx

from handglass.compiler.lowering.phases import lower
from handglass.compiler.ops import embedding, exponential, norm
from handglass.compiler.ops.matmul import matmul
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.compiler.schemes.rounding import quantize_groups
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.levels]

Compiled = Callable[..., np.ndarray]
RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def build(compute: Callable, *arguments: tuple[Sequence[Any], str], pattern: int = 8) -> Compiled:
    """Compile a tensor expression of arguments (shape, dtype); strings in shapes are symbolic."""
    sizes: dict[str, tirx.Var] = {}
    variables = []
    for number, (shape, dtype) in enumerate(arguments):
        for n in shape:
            if isinstance(n, str):
                sizes.setdefault(n, tirx.Var(n, "int64"))
        dims = [sizes[n] if isinstance(n, str) else n for n in shape]
        variables.append(relax.Var(f"x{number}", relax.TensorType(dims, dtype)))
    builder = relax.BlockBuilder()
    with builder.function("main", variables):
        with builder.dataflow():
            result = builder.emit_te(compute, *variables, primfunc_attrs={"op_pattern": pattern})
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    target = find_target("host")
    lowered = lower(builder.get(), target)
    built = relax.build(lowered.mod, tvm.target.Target(target.tvm))
    machine = relax.VirtualMachine(built, tvm.cpu())
    return lambda *arrays: machine["main"](*map(tvm.runtime.tensor, arrays)).numpy()


def check(actual: np.ndarray, truth: np.ndarray, tolerance: float = 2e-6) -> None:
    assert actual.shape == truth.shape
    assert np.abs(actual - truth).max() < tolerance * max(1e-6, float(np.abs(truth).max()))


# --- exponential ---


def elementwise(function: Callable) -> Compiled:
    return build(
        lambda x: te.compute(x.shape, lambda i: function(x[i]), name="out"), (["n"], "float32")
    )


def test_exp2() -> None:
    x = np.concatenate([np.linspace(-126, 126, 99_991), RNG.uniform(-1, 1, 9_999)]).astype("f4")
    truth = np.exp2(x.astype(np.float64))
    assert (
        np.abs(elementwise(exponential.exp2)(x) - truth) / truth
    ).max() < 2.5e-7  # two units in the last place


def test_exp2_stays_finite() -> None:
    x = np.array([-1e30, -127, 127, 1e30, -np.inf, np.inf], np.float32)
    y = elementwise(exponential.exp2)(x)
    assert np.isfinite(y).all() and (y > 0).all()


def test_exp2_passes_on_what_is_not_a_number() -> None:
    x = np.array([np.nan, 1.0] * 16, np.float32)
    y = elementwise(exponential.exp2)(x)
    assert np.isnan(y[::2]).all() and (y[1::2] == 2).all()


def test_sigmoid() -> None:
    x = np.concatenate([normal(999) * 5, [-600, 600, 0, -90, 90]]).astype(np.float32)
    check(elementwise(exponential.sigmoid)(x), 1 / (1 + np.exp(-x.astype(np.float64))), 3e-7)


def test_gelu() -> None:
    x = np.concatenate([normal(995) * 3, [-1e4, 1e4, 0, -40, 1e-20]]).astype(np.float32)
    truth = torch.nn.functional.gelu(torch.from_numpy(x).double(), approximate="tanh").numpy()
    gelu = build(exponential.gelu_tanh, (["m", 10], "float32"))
    actual = gelu(x.reshape(100, 10)).reshape(-1)
    assert (np.abs(actual - truth) <= 1e-6 * np.maximum(np.abs(truth), 1)).all()


@pytest.mark.parametrize("width", [1, 10, 32])
def test_exact_gelu(width: int) -> None:
    x = np.concatenate([normal(9_594) * 3, [-1e4, 1e4, 0, -40, 1e-20, -1e30]]).astype(np.float32)
    gelu = build(exponential.gelu, (["m", width], "float32"))
    actual = gelu(x.reshape(-1, width)).reshape(-1)
    truth = torch.nn.functional.gelu(torch.from_numpy(x).double()).numpy()
    assert (np.abs(actual - truth) <= 2e-7 * np.maximum(np.abs(x), 1)).all()
    beyond_one = (x < -1) & (x > -3)
    np.testing.assert_allclose(actual[beyond_one], truth[beyond_one], 5e-6)  # no cancellation


def test_exact_gelu_of_special_values() -> None:
    x = np.array([[np.nan, np.inf, -np.inf, 1.0, -1e30, -0.0]], np.float32)
    truth = [[np.nan, np.inf, np.nan, 0.8413447, 0, 0]]  # -inf times zero
    gelu = build(exponential.gelu, (["m", 6], "float32"))
    np.testing.assert_allclose(gelu(x), truth, 1e-6, 1e-30)


def test_exact_gelu_names_its_input_few_times() -> None:
    """What is inlined there, such as a sum with its bias, is written out as often in CUDA C++."""
    x = te.placeholder((4, 4), "float32", name="x")
    with tvm.target.Target({"kind": "cuda", "arch": "sm_80"}):
        text = te.create_prim_func([x, exponential.gelu(x)]).script()
    assert text.count("x[v_i0, v_i1]") <= 12  # T.reads is one of them


def test_silu_gate() -> None:
    x = normal(5, 26) * 4
    gate, up = x[:, :13], x[:, 13:]
    silu_gate = build(exponential.silu_gate, (["m", 26], "float32"))
    check(silu_gate(x), gate / (1 + np.exp(-gate)) * up)


# --- norms ---


@pytest.mark.parametrize("d", [7, 48, 90, 144])
def test_rms_norm(d: int) -> None:
    rms_norm = build(
        lambda x, w: norm.rms_norm(x, w, 1e-5), (["m", d], "float32"), ([d], "float32")
    )
    for m in (1, 5):
        x, w = normal(m, d) * 3, normal(d)
        check(rms_norm(x, w), x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w)
    assert not rms_norm(np.zeros((2, d), np.float32), normal(d)).any()


@pytest.mark.parametrize("d", [7, 48, 90, 144])
@pytest.mark.parametrize("offset", [0, 300])
def test_layer_norm(d: int, offset: float) -> None:
    """A mean far from zero must not cancel the variance."""
    shape = ([d], "float32")
    layer_norm = build(
        lambda x, w, b: norm.layer_norm(x, w, b, 1e-6), (["m", d], "float32"), shape, shape
    )
    for m in (1, 5):
        x, w, b = normal(m, d) + np.float32(offset), normal(d), normal(d)
        exact = x.astype(np.float64)
        centred = exact - exact.mean(-1, keepdims=True)
        truth = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * w + b
        check(layer_norm(x, w, b), truth, 2e-6 if offset == 0 else 3e-4)


# --- matrix products and the embedding, in every scheme ---


def packed(scheme: str, weight: np.ndarray) -> list[np.ndarray]:
    parts = SCHEMES[scheme].pack(weight)
    shapes = SCHEMES[scheme].shapes(*weight.shape)
    assert {name: (part.shape, part.dtype.name) for name, part in parts.items()} == shapes
    return [np.ascontiguousarray(parts[name]) for name in shapes]


def part_shapes(parts: list[np.ndarray]) -> list[tuple[Sequence[int], str]]:
    return [(part.shape, part.dtype.name) for part in parts]


def stored(scheme: str, weight: np.ndarray) -> np.ndarray:
    return ROUND[scheme](torch.from_numpy(weight)).numpy()


@pytest.mark.parametrize("scheme", [name for name, s in SCHEMES.items() if s.codes is None])
@pytest.mark.parametrize(("n", "k"), [(37, 50), (16, 32), (5, 333)])
def test_matmul(scheme: str, n: int, k: int) -> None:
    weight = normal(n, k)
    parts = packed(scheme, weight)
    reader = SCHEMES[scheme]

    def compute(x: te.Tensor, *parts: te.Tensor) -> te.Tensor:
        return matmul(x, n, reader.depth(k), reader.read(parts))

    for rows, sizes in ((1, [1]), ("m", [1, 3, 17])):
        product = build(compute, ([rows, k], "float32"), *part_shapes(parts), pattern=4)
        for m in sizes:
            x = normal(m, k)
            check(product(x, *parts), x @ stored(scheme, weight).T)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_embedding(scheme: str) -> None:
    weight = normal(37, 50)
    parts = packed(scheme, weight)
    reader = SCHEMES[scheme]
    lookup = build(
        lambda ids, *parts: embedding.lookup(ids, reader.read(parts), 50, 12.0),
        (["s"], "int32"),
        *part_shapes(parts),
    )
    ids = np.array([36, 0, 16, 15, 36], np.int32)
    check(lookup(ids, *parts), stored(scheme, weight)[ids] * 12, 1e-7)


# --- the 4-bit quantizer ---


def test_groups_of_zeros_and_of_one_value() -> None:
    groups = np.stack([np.zeros(32), np.full(32, 0.25), np.full(32, -3.0)]).astype(np.float32)
    codes, scales = quantize_groups(groups)
    assert codes.dtype == np.uint8 and codes.max() <= 15
    values = (codes.astype(np.float32) - 8) * scales[:, None].astype(np.float32)
    check(values, groups, 1e-3)


def test_four_bits_leave_twenty_decibels() -> None:
    groups = normal(1000, 32)
    codes, scales = quantize_groups(groups)
    values = (codes.astype(np.float32) - 8) * scales[:, None].astype(np.float32)
    noise = np.square(groups - values).sum() / np.square(groups).sum()
    assert -10 * np.log10(noise) > 20
    assert np.abs(groups - values).max() <= 1.01 * np.abs(scales).max()
