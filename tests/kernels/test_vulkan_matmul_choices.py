"""Choices of the GPU matmul rules: results do not depend on them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from test_vulkan_matmul import check, multiplied, normal
from tvm.s_tir import Schedule
from vulkan_products import RULES, Product
from vulkan_running import needs_vulkan, shaders, tvm_target
from vulkan_targets import DOT

from handglass.schedules.choices import Open, UnknownChoiceError
from handglass.schedules.rule import replay

pytestmark = pytest.mark.compiler

SEEDS = (1, 2_000, 3_000_000)
THREADS = 256
CASES = [(scheme, m) for scheme in ("f32", "w4", "w4a8", "w8a8") for m in (1, 7)]


def product_of(scheme: str) -> Product:
    return Product(scheme, 64, 256, DOT)


def sampled(product: Product, m: int, seed: int) -> tuple:
    """The rule that schedules the product, and a sample of its choices by name."""
    func = product.function(1 if m == 1 else None)
    for rule in RULES:
        sch, space = Schedule(func, seed=seed), Open()
        if rule(sch, tvm_target(DOT), space):
            decisions = [int(n) for n in sch.trace.decisions.values()]
            names = list(space.options)
            assert len(names) == len(decisions)
            return rule, {n: space.options[n][d] for n, d in zip(names, decisions, strict=True)}
    raise AssertionError("no rule takes this function")


@needs_vulkan
@pytest.mark.parametrize(("scheme", "m"), CASES)
def test_every_choice_gives_the_same_numbers(scheme: str, m: int) -> None:
    product = product_of(scheme)
    x, weight = normal(m, product.k), normal(product.n, product.k)
    func, seen = product.function(1 if m == 1 else None), set()
    for seed in SEEDS:
        rule, chosen = sampled(product, m, seed)
        seen.add(tuple(chosen.items()))
        scheduled = replay(func, rule, tvm_target(DOT), chosen).mod["main"]
        check(multiplied(product, scheduled, x, weight), product.expected(x, weight))
    assert len(seen) > 1, "all samples have the same choices"


@pytest.mark.parametrize(("scheme", "m"), CASES)
def test_extremes_stay_within_the_limits(scheme: str, m: int) -> None:
    """All choices at their minimum, then all at their maximum."""
    product = product_of(scheme)
    func = product.function(1 if m == 1 else None)
    rule, chosen = sampled(product, m, 1)
    space = Open()
    rule(Schedule(func), tvm_target(DOT), space)
    for end in (min, max):
        values = {name: end(options) for name, options in space.options.items()}
        scheduled = replay(func, rule, tvm_target(DOT), values).mod["main"]
        (shader,) = shaders(scheduled, DOT)
        x, y, z = local_size(shader.words)
        assert 16 <= x * y * z <= THREADS
    assert chosen.keys() == values.keys()


def local_size(words: Sequence[int]) -> Sequence[int]:
    """x, y, z of OpExecutionMode LocalSize."""
    at = 5
    while at < len(words):
        length, code = words[at] >> 16, words[at] & 0xFFFF
        if code == 16 and words[at + 2] == 17:
            return words[at + 3 : at + 6]
        at += length
    raise AssertionError("no workgroup size")


def test_another_value_is_refused() -> None:
    product = product_of("f32")
    rule, chosen = sampled(product, 7, 1)
    with pytest.raises(UnknownChoiceError, match="rows"):
        replay(product.function(), rule, tvm_target(DOT), {**chosen, "rows": 48})
