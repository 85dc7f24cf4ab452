"""The pass that leaves out repeated calls of the virtual machine: same results, fewer calls."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from tvm import relax, te, tirx

from handglass.compiler.lowering.phases import lower
from handglass.targets import find_target
from handglass.targets.codegen.build import pipeline, without_alias

pytestmark = pytest.mark.compiler

HOST = find_target("host")
LAYERS, WIDTH = 5, 24


def layers(rows: int | str) -> tvm.IRModule:
    """x (rows, 24), Shape(n) and weights -> x, multiplied by each weight and increased by n.

    Every layer also makes a second result, of which the next layer takes the difference.
    """
    m: Any = tirx.Var(rows, "int64") if isinstance(rows, str) else rows
    n = tirx.Var("n", "int64")
    x = relax.Var("x", relax.TensorType((m, WIDTH), "float32"))
    size = relax.Var("size", relax.ShapeType([n]))
    kind = relax.TensorType((WIDTH,), "float32")
    weights = relax.Var("weights", relax.TupleType([kind] * LAYERS))

    def layer(x: te.Tensor, weight: te.Tensor, n: tirx.Var) -> list[te.Tensor]:
        first = lambda i, j: x[i, j] * weight[j] + n.astype("float32")  # noqa: E731
        return [
            te.compute(x.shape, first, name="first"),
            te.compute(x.shape, lambda i, j: x[i, j] * 0.5, name="second"),
        ]

    def difference(first: te.Tensor, second: te.Tensor) -> te.Tensor:
        return te.compute(first.shape, lambda i, j: first[i, j] - second[i, j], name="difference")

    builder = relax.BlockBuilder()
    with builder.function("main", [x, size, weights]):
        with builder.dataflow():
            y: relax.Expr = x
            for number in range(LAYERS):
                weight = builder.emit(relax.TupleGetItem(weights, number))
                attrs = {"primfunc_attrs": {"op_pattern": 8}}
                both = builder.emit_te(layer, y, weight, n, **attrs)
                parts = [builder.emit(relax.TupleGetItem(both, i)) for i in range(2)]
                y = builder.emit_te(difference, *parts, **attrs)
            out = builder.emit_output(y)
        builder.emit_func_output(out)
    return builder.get()


def truth(x: np.ndarray, n: int, weights: list[np.ndarray]) -> np.ndarray:
    for weight in weights:
        x = x * weight + np.float32(n) - x * np.float32(0.5)
    return x


def run(mod: tvm.IRModule, passes: Any, x: np.ndarray) -> tuple[np.ndarray, Counter[str]]:
    """The result after two calls, and the calls of the virtual machine in the second."""
    built = relax.build(lower(mod, HOST).mod, tvm.target.Target(HOST.tvm), relax_pipeline=passes)
    machine = relax.VirtualMachine(built, tvm.cpu())
    calls: Counter[str] = Counter()

    def count(_: Any, name: str, is_before: bool, *__: Any) -> int:
        calls[name] += is_before
        return 0

    weights = [np.full(WIDTH, 1 + k / 8, np.float32) for k in range(LAYERS)]
    given = (tvm.runtime.ShapeTuple([3]), [tvm.runtime.tensor(w) for w in weights])
    machine["main"](tvm.runtime.tensor(np.zeros_like(x)), *given)
    machine.set_instrument(count)
    found = machine["main"](tvm.runtime.tensor(x), *given).numpy()
    np.testing.assert_allclose(found, truth(x, 3, weights), rtol=1e-6)
    return found, calls


def test_a_function_of_constant_sizes_makes_each_tensor_once() -> None:
    x = np.random.default_rng(0).standard_normal((7, WIDTH), np.float32)
    before, many = run(layers(7), without_alias(), x)
    after, few = run(layers(7), pipeline(HOST), x)
    np.testing.assert_array_equal(after, before)
    kernels = {name: count for name, count in few.items() if not name.startswith("vm.")}
    assert kernels == {name: many[name] for name in kernels} and sum(kernels.values()) > LAYERS
    assert many["vm.builtin.alloc_tensor"] == 3 * LAYERS
    # the result, and places of the planned blocks, however many layers there are
    assert few["vm.builtin.alloc_tensor"] <= 5
    assert few["vm.builtin.make_prim_value"] <= 1 < many["vm.builtin.make_prim_value"]
    assert not few["vm.builtin.null_value"] and many["vm.builtin.null_value"] > LAYERS


def test_results_of_two_calls_are_two_tensors() -> None:
    """The result belongs to the caller: it is not one of the planned tensors."""
    built = relax.build(
        lower(layers(2), HOST).mod, tvm.target.Target(HOST.tvm), relax_pipeline=pipeline(HOST)
    )
    machine = relax.VirtualMachine(built, tvm.cpu())
    ones = [tvm.runtime.tensor(np.ones(WIDTH, np.float32))] * LAYERS
    given = (tvm.runtime.ShapeTuple([0]), ones)
    x = np.ones((2, WIDTH), np.float32)
    first = machine["main"](tvm.runtime.tensor(x), *given)
    second = machine["main"](tvm.runtime.tensor(2 * x), *given)
    np.testing.assert_array_equal(first.numpy(), x * 0.5**LAYERS)
    np.testing.assert_array_equal(second.numpy(), 2 * first.numpy())


def test_a_function_of_unknown_sizes_stays() -> None:
    """Its large blocks are freed as soon as they are not needed."""
    x = np.random.default_rng(0).standard_normal((9, WIDTH), np.float32)
    before, many = run(layers("m"), without_alias(), x)
    after, same = run(layers("m"), pipeline(HOST), x)
    np.testing.assert_array_equal(after, before)
    assert same == many
