"""Rules: which rule schedules which pattern, no naive nest in hot kernels, and the machine code."""

import numpy as np
import pytest

pytest.importorskip("tvm", reason="schedules are written with the TVM compiler")

import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule, ScheduleError

from handglass.compiler.ops import exponential, norm
from handglass.compiler.ops.attention import attention
from handglass.compiler.ops.matmul import matmul
from handglass.compiler.ops.quantize_rows import quantize_rows
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.schedules import CPU_RULES, Rule, apply_rules
from handglass.schedules.choices import DEFAULTS, Choices, Open, Written
from handglass.schedules.isa.integer_isa import find_integer_isa
from handglass.schedules.rule import ATTEMPTS, PATTERN, UnscheduledError, schedule_function
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.levels]

TARGET = tvm.target.Target(find_target("x86-64-v3").tvm)
HOST = tvm.target.Target(find_target("host").tvm)


def placeholder(*shape, dtype: str = "float32", name: str = "x") -> te.Tensor:
    return te.placeholder(shape, dtype, name=name)


def product(m, n: int = 48, k: int = 64, scheme: str = "f32") -> tirx.PrimFunc:
    chosen = SCHEMES[scheme]
    x = placeholder(m, k)
    parts = [
        placeholder(*shape, dtype=dtype, name=name)
        for name, (shape, dtype) in chosen.shapes(n, k).items()
    ]
    y = matmul(x, n, chosen.depth(k), chosen.read(parts))
    return te.create_prim_func([x, *parts, y])


def causal(s) -> tirx.PrimFunc:
    q, k, v = placeholder(s, 6, 32), placeholder(2, 8, 32, 16), placeholder(2, 128, 32)
    pos = tirx.Var("pos", "int64")
    return te.create_prim_func([q, k, v, pos, attention(q, k, v, 0.2, lambda i: pos + i + 1)])


def normalised(m) -> tirx.PrimFunc:
    x, w = placeholder(m, 40), placeholder(40, name="w")
    return te.create_prim_func([x, w, norm.rms_norm(x, w, 1e-5)])


def length() -> tirx.Var:
    return tirx.Var("m", "int64")


@pytest.mark.parametrize(
    ("func", "rule"),
    [
        (product(1), "cpu-matmul"),
        (product(length(), scheme="w4"), "cpu-matmul"),
        (causal(1), "cpu-attention"),
        (causal(length()), "cpu-attention"),
        (normalised(1), "cpu-rows"),
        (normalised(length()), "cpu-rows"),
        (
            te.create_prim_func([x := placeholder(3, 8), exponential.gelu_tanh(x)]),
            "cpu-elementwise",
        ),
    ],
)
def test_each_pattern_has_its_rule(func: tirx.PrimFunc, rule: str) -> None:
    before = func.script()
    taken = schedule_function(func, CPU_RULES, TARGET)
    assert taken is not None and taken[1].name == rule
    assert func.script() == before, "the rule changed the input function"


def test_a_rule_leaves_other_patterns_alone() -> None:
    for rule in CPU_RULES[:-1]:
        assert not rule(Schedule(te.create_prim_func([x := placeholder(4, 4), x + 1.0])), TARGET)


@pytest.mark.parametrize("func", [product(length()), causal(1), normalised(1)])
def test_a_hot_pattern_left_to_the_fallback_is_an_error(func: tirx.PrimFunc) -> None:
    lazy = [Rule(rule.name, lambda *_: False, rule.patterns) for rule in CPU_RULES[:-1]]
    mod = tvm.IRModule({"kernel": func})
    with pytest.raises(UnscheduledError, match="kernel"):
        apply_rules(mod, [*lazy, CPU_RULES[-1]], TARGET)


def test_no_rule_at_all_is_an_error() -> None:
    with pytest.raises(UnscheduledError, match="none"):
        apply_rules(tvm.IRModule({"kernel": product(1)}), [], TARGET)


def test_the_report_names_function_rule_and_patterns() -> None:
    _, report = apply_rules(
        tvm.IRModule({"kernel": product(length(), scheme="w4")}), CPU_RULES, TARGET
    )
    (row,) = report
    assert (row.function, row.rule) == ("kernel", "cpu-matmul")
    assert {"matmul", "dequantize", "rows"} <= set(row.patterns)


def assembly(func: tirx.PrimFunc) -> str:
    taken = schedule_function(func.with_attr("global_symbol", "kernel"), CPU_RULES, TARGET)
    assert taken is not None
    return tvm.compile(taken[0].mod, TARGET).mod.inspect_source("asm")


def test_the_register_tile_is_vectors_of_fused_multiply_adds() -> None:
    text = assembly(product(length()))
    # 6 rows x 2 vectors x 4 steps of k; twice if the last rows are peeled
    assert text.count("vfmadd") >= 48
    assert "ymm" in text


@pytest.mark.parametrize("func", [causal(length()), causal(1)])
def test_softmax_calls_no_library_function(func: tirx.PrimFunc) -> None:
    text = assembly(func)
    assert "expf" not in text and "exp2f" not in text


@pytest.mark.parametrize(
    ("func", "choice", "has"),
    [(causal(1), None, True), (causal(1), 0, False), (causal(length()), None, False)],
    ids=["one query", "one query, if not wanted", "many queries"],
)
def test_one_query_prefetches_its_keys_and_values(
    func: tirx.PrimFunc, choice: int | None, has: bool
) -> None:
    choices = Written({} if choice is None else {"prefetch": choice})
    taken = schedule_function(func.with_attr("global_symbol", "kernel"), CPU_RULES, TARGET, choices)
    assert taken is not None
    text = tvm.compile(taken[0].mod, TARGET).mod.inspect_source("asm")
    assert ("prefetcht0" in text) == has


def test_the_tasks_of_one_query_are_its_only_parallel_loop() -> None:
    taken = schedule_function(causal(1), CPU_RULES, TARGET)
    assert taken is not None and taken[0].mod.script().count("T.parallel") == 1


@pytest.mark.parametrize("m", [1, 5])
def test_quantizing_gathers_no_lanes(m: int) -> None:
    x = placeholder(m, 96)
    func = te.create_prim_func([x, *quantize_rows(x, find_integer_isa(TARGET).codes(4), 96)])
    taken = schedule_function(func.with_attr("global_symbol", "kernel"), CPU_RULES, TARGET)
    assert taken is not None
    script = taken[0].mod.script()
    assert "llvm.vector.reduce.smax" in script and "llvm.vector.reduce.add" in script
    assert "gather" not in tvm.compile(taken[0].mod, TARGET).mod.inspect_source("asm")


def test_gelu_calls_no_library_function() -> None:
    x = placeholder(length(), 64)
    text = assembly(te.create_prim_func([x, exponential.gelu_tanh(x)]))
    assert "tanhf" not in text and "expf" not in text


def test_patterns_are_block_annotations() -> None:
    assert f'"{PATTERN}": "matmul"' in product(4).script()


@pytest.mark.parametrize("m", [1, 7])
def test_the_tunable_space_holds_choices_and_each_is_right(m: int) -> None:
    func = product(m if m == 1 else length(), n=64, k=96).with_attr("global_symbol", "kernel")
    rng = np.random.default_rng(m)
    x, w = rng.standard_normal((m, 96), "f4"), rng.standard_normal((64, 96), "f4")
    packed = SCHEMES["f32"].pack(w)["weight"]
    seen = set()
    for seed in range(6):
        sch = Schedule(func, seed=seed + 1)
        assert CPU_RULES[0](sch, TARGET, Open())
        seen.add(tuple(int(n) for n in sch.trace.decisions.values()))
        y = tvm.runtime.tensor(np.zeros((m, 64), "f4"))
        tvm.compile(sch.mod, HOST)["kernel"](*map(tvm.runtime.tensor, (x, packed)), y)
        np.testing.assert_allclose(y.numpy(), x @ w.T, rtol=1e-4, atol=1e-4)
    assert len(seen) > 1, "all samples have the same choices"


def test_an_odd_depth_needs_no_condition_in_the_inner_loop() -> None:
    taken = schedule_function(product(1, k=63), CPU_RULES, TARGET)
    assert taken is not None and "T.where" not in taken[0].mod.script()


@pytest.mark.parametrize("failures", [0, 1, ATTEMPTS])
def test_a_primitive_that_fails_by_chance_is_tried_again(failures: int) -> None:
    """With choices of its own each time."""
    tried: list[int] = []

    def moody(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
        choices.pick(sch, "size", (1, 2), 1)
        tried.append(len(tried))
        if len(tried) <= failures:
            sch.reverse_compute_at(sch.get_sblock("C"), sch.get_loops(sch.get_sblock("C"))[0])
        return True

    a = te.placeholder((8,), "float32")
    func = te.create_prim_func([a, te.compute((8,), lambda i: a[i] + 1.0, name="C")])
    if failures == ATTEMPTS:
        with pytest.raises(ScheduleError):
            schedule_function(func, [Rule("moody", moody)], TARGET, Open())
    else:
        assert schedule_function(func, [Rule("moody", moody)], TARGET, choices := Open())
        assert choices.options == {"size": (1, 2)}
    assert len(tried) == min(failures + 1, ATTEMPTS)
