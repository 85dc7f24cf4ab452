"""Attention in AMX tile registers, with tiles emulated in C, against numpy with the same rounding.

Lengths end inside, at and after a panel, a span of 32 positions, a block of 32 rows and a chunk.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from arm_kernels import Kernel
from attention_reference import CONTEXT, LENGTHS, attend
from dot_emulator import BFLOAT16_DOTS
from space_candidates import SAMPLE, compiled_together, drawn, scheduled, unchecked
from thinned import only, thinned
from tile_attention import (
    SPACES,
    attend_rounded,
    cache_inputs,
    over_cache,
    over_picture,
    picture_inputs,
)
from tile_emulator import Emulator, emulated, open_emulator
from tolerance import BFLOAT16_ROWS, TILE_ATTENTION
from tvm import te, tirx
from tvm.s_tir import Schedule, renew_defs
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from handglass.compiler.ops.layout import Layout
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.compiler.schemes.scheme import has_tile_attention
from handglass.schedules import CPU_RULES
from handglass.schedules.choices import DEFAULTS, Choices, Open, Written
from handglass.schedules.cpu.bf16_attention import OF_DOTS, OFFERS, schedule_tile_attention
from handglass.schedules.cpu.exponential import exp2_for_bfloat16
from handglass.schedules.isa.amx_configuration import configure_tiles
from handglass.schedules.isa.integer_isa import AMX
from handglass.schedules.isa.register_tiles import ZMM_FLOATS
from handglass.schedules.rule import schedule_function
from handglass.schedules.select import BF16_DOT, cpu_units, find_units
from handglass.targets import find_target, known_targets
from handglass.targets.codegen.build import without_alias

pytestmark = [pytest.mark.compiler, pytest.mark.levels, pytest.mark.slow]

HOST = tvm.target.Target(find_target("host").tvm)
AVX512 = find_units(HOST).floats is ZMM_FLOATS


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    opened = open_emulator()
    opened.reset()
    yield opened
    assert opened.errors == (0, ""), "a CPU would raise a fault"


@cache
def picture_kernel(*shape: int) -> Any:
    return compiled(over_picture(*shape).func)


@cache
def cache_kernel(dtype: str, heads: int, kv: int, d: int) -> Any:
    return compiled(over_cache(dtype, heads=heads, kv=kv, d=d).func)


def compiled(func: tirx.PrimFunc, choices: Choices = DEFAULTS) -> Any:
    sch = Schedule(renew_defs(func))
    assert schedule_tile_attention(sch, AVX512, choices)
    return build(tvm.IRModule({"main": sch.mod["main"]}))["main"]


def build(mod: tvm.IRModule) -> Any:
    return tvm.compile(without_alias().passes[1](emulated(configure_tiles()(mod))), HOST)


def result(kernel: Any, inputs: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    given = [x if isinstance(x, int) else tvm.runtime.tensor(x) for x in inputs]
    out = tvm.runtime.tensor(np.full(shape, 9, np.float32))
    kernel(*given, out)
    return out.numpy()


# --- no mask: vision, resampler ---


@pytest.mark.parametrize(
    ("heads", "kv", "d"),
    thinned(3, [(2, 2, 72), (6, 2, 64), (4, 2, 62), (2, 2, 8), (1, 1, 33), (3, 1, 20)]),
)
def test_over_a_picture(emulator: Emulator, heads: int, kv: int, d: int) -> None:
    kernel = picture_kernel(heads, kv, d)
    for n in LENGTHS:
        q, k, v = picture_inputs(n, n, heads, kv, d)
        TILE_ATTENTION.check(result(kernel, [q, k, v], (n, heads * d)), attend_rounded(q, k, v))


@pytest.mark.parametrize("queries", only([10], [2, 10, 64]))
def test_with_a_fixed_number_of_queries(emulator: Emulator, queries: int) -> None:
    kernel = compiled(over_picture(4, 4, 128, queries).func)
    for n in LENGTHS:
        q, k, v = picture_inputs(queries, n, 4, 4, 128)
        truth = attend_rounded(q, k, v)
        TILE_ATTENTION.check(result(kernel, [q, k, v], truth.shape), truth)


def test_a_single_task(emulator: Emulator) -> None:
    """One head and one block of rows: lowering drops the loop over tasks."""
    q, k, v = picture_inputs(10, 49, 1, 1, 16)
    truth = attend_rounded(q, k, v)
    actual = result(compiled(over_picture(1, 1, 16, 10).func), [q, k, v], truth.shape)
    TILE_ATTENTION.check(actual, truth)


def test_huge_scores(emulator: Emulator) -> None:
    """One score exceeds the others by thousands: their weights are zero, without overflow."""
    q, k, v = picture_inputs(333, 333, 2, 2, 8)
    truth = attend_rounded(q * 300, k * 300, v)
    actual = result(picture_kernel(2, 2, 8), [q * 300, k * 300, v], truth.shape)
    TILE_ATTENTION.check(actual, truth)


@pytest.mark.parametrize("slack", OFFERS["slack"])
def test_scores_that_rise_with_the_position(emulator: Emulator, slack: int) -> None:
    """Every chunk raises the maximum, by much or by little: sums are rescaled or not."""
    kernel = compiled(over_picture(1, 1, 16, 40).func, Written({"chunk": 4, "slack": slack}))
    for rise in (0.02, 0.5, -0.5):
        q, k, v = picture_inputs(40, 600, 1, 1, 16)
        q[..., 0], k[..., 0] = 4.0, np.arange(600)[:, None] * rise
        truth = attend_rounded(q, k, v)
        TILE_ATTENTION.check(result(kernel, [q, k, v], truth.shape), truth)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_no_number_spoils_only_itself(emulator: Emulator, bad: float) -> None:
    q, k, v = picture_inputs(40, 40, 2, 2, 16)
    truth = attend_rounded(q, k, v)
    q[3, 1, 5] = bad
    actual = result(picture_kernel(2, 2, 16), [q, k, v], truth.shape)
    assert not np.isfinite(actual[3, 16:]).all()
    actual[3, 16:] = truth[3, 16:]
    TILE_ATTENTION.check(actual, truth)


# --- the decoder: a cache and a causal mask ---


@pytest.mark.parametrize(
    ("heads", "kv", "d", "dtype"),
    thinned(
        2, [(6, 2, 64, "float16"), (2, 2, 72, "float32"), (5, 1, 8, "int8"), (16, 2, 80, "int8")]
    ),
)
def test_over_a_cache(emulator: Emulator, heads: int, kv: int, d: int, dtype: str) -> None:
    """The cache is NaN after the last position, which must not affect the result."""
    kernel = cache_kernel(dtype, heads, kv, d)
    for s in (1, 2, 7, 64):
        for pos in (0, 1, 15, 31, 32, 333):
            inputs, truth = cache_inputs(dtype, s, pos, Layout(heads, kv, d))
            TILE_ATTENTION.check(result(kernel, inputs, truth.shape), truth)


def test_up_to_the_end_of_the_cache(emulator: Emulator) -> None:
    inputs, truth = cache_inputs("float16", 40, CONTEXT - 40, Layout(6, 2, 64))
    actual = result(cache_kernel("float16", 6, 2, 64), inputs, truth.shape)
    TILE_ATTENTION.check(actual, truth)


@pytest.mark.parametrize(("of", "bad"), [(3, np.nan), (4, np.inf), (4, -np.inf), (4, np.nan)])
def test_a_value_that_is_no_number_spoils_only_those_who_see_it(
    emulator: Emulator, of: int, bad: float
) -> None:
    """A key or value in the middle of a block of rows, which all attend to it or not."""
    inputs, truth = cache_inputs("float32", 40, 0, Layout(4, 2, 16))
    place = (slice(None), 21 // 16, 3, 21 % 16) if of == 3 else (slice(None), 21, 3)
    inputs[of][place] = bad
    actual = result(cache_kernel("float32", 4, 2, 16), inputs, truth.shape)
    assert not np.isfinite(actual[21:]).all(axis=1).any()
    TILE_ATTENTION.check(actual[:21], truth[:21])


# --- arithmetic ---

NEEDS_AVX512 = pytest.mark.skipif(not AVX512, reason="this CPU has no AVX-512")
each_form = pytest.mark.parametrize("instructions", [False, pytest.param(True, marks=NEEDS_AVX512)])


@each_form
def test_powers_of_two_for_weights(instructions: bool) -> None:
    """The upper halves are the nearest bfloat16, or the next if 2^x is near the middle of two."""
    x = np.concatenate([np.linspace(-40, 8, 100_000), np.arange(-125, 9)]).astype(np.float32)
    x = np.resize(x, -(-len(x) // 16) * 16)
    bits = powers(x, instructions).view(np.uint32)
    error = (bits & 0xFFFF0000).view(np.float32) / np.exp2(x.astype(np.float64)) - 1
    assert np.abs(error).max() < 2**-8 * 1.04
    assert np.abs(error.mean()) < 1e-4, "weights are rounded to one side"


@each_form
def test_powers_of_two_at_the_limits(instructions: bool) -> None:
    found = powers(np.array([-3e38, -np.inf, np.nan, -200.0] * 4, np.float32), instructions)
    assert (found[[0, 1, 3]] < 2.0**-125).all() and np.isnan(found[2])


def powers(x: np.ndarray, instructions: bool) -> np.ndarray:
    source = te.placeholder((len(x),), "float32", name="x")

    def nest(ins: list, outs: list) -> tirx.Stmt:
        with IRBuilder() as builder, T.serial(0, len(x) // 16) as i:
            value = exp2_for_bfloat16(ins[0].vload([i * 16], "float32x16"), instructions)
            T.buffer_store(outs[0], value, [T.ramp(i * 16, 1, 16)])
        return builder.get()

    y = te.extern(x.shape, [source], nest, dtype="float32")
    kernel = tvm.compile(tvm.IRModule({"main": te.create_prim_func([source, y])}), HOST)["main"]
    return result(kernel, [x], x.shape)


def test_rounding_costs_what_the_model_tolerates(emulator: Emulator) -> None:
    """Against attention without rounding."""
    q, k, v = picture_inputs(77, 77, 2, 2, 72)
    actual = result(picture_kernel(2, 2, 72), [q, k, v], (77, 144))
    BFLOAT16_ROWS.check(actual, attend(q, k, v))


# --- choices ---


each_space = pytest.mark.parametrize("space", SPACES)


@pytest.mark.parametrize("space", only(["vision", "prefill_int8"], SPACES))
def test_candidates_are_right(emulator: Emulator, space: str) -> None:
    kernel = SPACES[space]()
    picked = drawn(opened(kernel, AVX512).options, SAMPLE or 1)
    for batch in unchecked(scheduled(picked, partial(replayed, kernel), f"tiles-{AVX512}")):
        built = compiled_together(batch, build)
        for candidate in batch:
            actual = result(built[candidate.name], kernel.inputs, kernel.outputs[0].shape)
            TILE_ATTENTION.check(actual, kernel.outputs[0])


@each_space
def test_a_space_is_large(space: str) -> None:
    """With AVX-512, which every CPU with tiles has."""
    options = opened(SPACES[space](), True).options
    assert math.prod(map(len, options.values())) >= 200
    for name, offered in options.items():
        assert set(offered) <= set(OFFERS[name])


def opened(kernel: Kernel, avx512: bool, seed: int | None = None) -> Open:
    """The choices of a kernel, for a CPU with or without AVX-512 beside its tiles."""
    choices = Open()
    sch = Schedule(renew_defs(kernel.func), seed=seed)
    assert schedule_tile_attention(sch, avx512, choices)
    return choices


def replayed(kernel: Kernel, picked: Mapping[str, int]) -> Schedule:
    sch = Schedule(renew_defs(kernel.func))
    assert schedule_tile_attention(sch, AVX512, Written(picked))
    return sch


@pytest.mark.parametrize("blocks", thinned(2, OFFERS["blocks"]))
def test_blocks_of_a_task_see_different_positions(emulator: Emulator, blocks: int) -> None:
    """Six blocks of rows: the last task has fewer, and the first of a task see fewer positions."""
    layout, picked = Layout(6, 2, 16), Written({"blocks": blocks, "chunk": 4})
    kernel = compiled(over_cache(heads=6, kv=2, d=16).func, picked)
    for s, pos in ((61, 0), (64, 333), (33, 127), (1, 0)):
        inputs, truth = cache_inputs("float16", s, pos, layout)
        TILE_ATTENTION.check(result(kernel, inputs, truth.shape), truth)


def test_no_option_depends_on_another_choice() -> None:
    kernel = over_cache()
    found = [opened(kernel, True, seed).options for seed in range(1, 4)]
    offered = {name: tuple(n) for name, n in OFFERS.items() if name not in OF_DOTS}
    assert found[0] == found[1] == found[2] == offered


def test_only_avx512_is_offered_its_instructions() -> None:
    assert "exponential" not in opened(over_picture(), False).options


def test_a_task_has_no_more_blocks_than_there_are() -> None:
    assert opened(SPACES["resampler"](), True).options["blocks"] == (1,)


# --- selection ---


def test_the_rule_of_tiles_takes_it() -> None:
    target = known_targets()["x86-64-amx"]
    for kernel in SPACES.values():
        taken = schedule_function(kernel().func, target.rules, tvm.target.Target(target.tvm))
        assert taken is not None and taken[1].name == "cpu-tile-attention"
    assert "cpu-tile-attention" in {rule.name for rule in CPU_RULES}


def test_which_schemes_attend_in_tiles() -> None:
    on = lambda units: {n for n, s in SCHEMES.items() if has_tile_attention(s.on(units))}  # noqa: E731
    like_zen4 = find_units(tvm.target.Target(BFLOAT16_DOTS))
    assert on(cpu_units(AMX)) == on(like_zen4) == set(SCHEMES) - {"f32", "f16"}
    for name, target in known_targets().items():
        units = find_units(tvm.target.Target(target.tvm))
        halves = units.gpu is not None and units.gpu.products
        dots = BF16_DOT in units.kinds
        assert bool(on(units)) == (units.integers is AMX or dots or halves), name
        assert not halves or on(units) == set(SCHEMES) - {"f32", "bf16"}


def test_machine_code() -> None:
    """Configured once per task, before its loops; no tile is spilled, and exponentials need no
    library."""
    machine: Mapping[str, Any] = known_targets()["x86-64-amx"].tvm
    target = tvm.target.Target(machine)
    taken = schedule_function(over_picture().func, CPU_RULES, target)
    assert taken is not None
    text = tvm.compile(configure_tiles()(taken[0].mod), target).mod.inspect_source("asm")
    code = [line.split()[0] for line in text.splitlines() if line.startswith("\t")]
    assert code.count("ldtilecfg") == code.count("tilerelease") == 1
    assert code.count("vscalefps") > 0 and "exp2f" not in text
    assert not [line for line in text.splitlines() if "\ttile" in line and "%rsp" in line]
