"""AMX tile registers: the schedules of AMX bundles, with tiles emulated in C.

Every tile instruction is a call of tests/support/amx_emulator.c, which counts faults, also where
the CPU has tiles; everything around it is what a CPU with AMX runs. That the instructions
themselves come out right is read in the assembly (test_amx_assembly.py).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from thinned import thinned

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from test_integer_matmul import RNG, multiplied, normal, placeholder, product, quantized, run
from tile_emulator import Emulator, emulated, open_emulator
from tolerance import KERNEL, UNPACKED_KERNEL, Tolerance
from tvm import te, tirx
from tvm.s_tir import Schedule

from handglass.compiler.models import layers
from handglass.compiler.ops.amx_matmul import gated_matmul, nibbles_to_words
from handglass.compiler.parity.stored_weights import round_bfloat16
from handglass.compiler.schemes.integer import Integer
from handglass.compiler.schemes.quantize import find_scheme
from handglass.compiler.schemes.scheme import Scheme, selection_of
from handglass.schedules.choices import DEFAULTS, Choices, Noted, Open, Written
from handglass.schedules.cpu.amx import ALL_STEPS, L2, schedule_tiles
from handglass.schedules.cpu.amx_nest import FETCHED, PLAIN
from handglass.schedules.isa.amx_configuration import configure_tiles
from handglass.schedules.isa.amx_instructions import TILE, configuration
from handglass.schedules.isa.amx_int4 import Unpacking, nibbles_intrinsic
from handglass.schedules.isa.integer_isa import AMX
from handglass.schedules.isa.register_tiles import ZMM_FLOATS
from handglass.schedules.rule import schedule_function
from handglass.schedules.select import cpu_units, find_units
from handglass.targets import find_target, known_targets

pytestmark = [pytest.mark.compiler, pytest.mark.levels, pytest.mark.slow]

HOST = tvm.target.Target(find_target("host").tvm)
X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}
MACHINES = {
    "x86-64-amx": known_targets()["x86-64-amx"].tvm,
    "sapphirerapids": {**X86, "mcpu": "sapphirerapids"},
}
TILES = cpu_units(AMX)
M = tirx.Var("m", "int64")
THREADS = 2
PRODUCT_OF_TWO = replace(UNPACKED_KERNEL, largest=2 * UNPACKED_KERNEL.largest)
# outputs: one panel, an odd number, an even number; inputs: less than a step, and not a multiple
SHAPES = [(16, 30), (37, 96), (64, 50), (100, 200)]
HEIGHTS = (1, 2, 32, 75)


@pytest.fixture
def faulty_emulator() -> Iterator[Emulator]:
    """For tests that make faults."""
    emulator = open_emulator()
    emulator.reset()
    yield emulator
    emulator.reset()


@pytest.fixture
def emulator(faulty_emulator: Emulator) -> Iterator[Emulator]:
    yield faulty_emulator
    assert faulty_emulator.errors == (0, ""), "a CPU would raise a fault"


def floats(scheme: Scheme, n: int, k: int, m: int | tirx.Var = M) -> tirx.PrimFunc:
    """Many float32 rows times a weight in bfloat16 arithmetic, plus a bias."""
    x, bias = placeholder((m, k), "float32", "x"), placeholder((n,), "float32", "bias")
    parts = [placeholder(s, d, name) for name, (s, d) in scheme.shapes(n, k).items()]
    y = layers.product(scheme, selection_of(scheme).many_rows, (n, k), 1, x, *parts)
    out = te.compute(y.shape, lambda i, j: y[i, j] + bias[j], name="biased")
    return te.create_prim_func([x, *parts, bias, out]).with_attr("global_symbol", "main")


def compiled(
    func: tirx.PrimFunc, configure: bool = True, l2: int = L2, choices: Choices = DEFAULTS
) -> Any:
    sch = Schedule(func)
    assert schedule_tiles(sch, choices, l2)
    return tvm.compile(emulated(configure_tiles()(sch.mod) if configure else sch.mod), HOST)["main"]


def check_floats(
    kernel: Any, scheme: Scheme, m: int, n: int, k: int, tolerance: Tolerance = KERNEL
) -> None:
    x, weight, bias = normal(m, k), normal(n, k), normal(n)
    parts = scheme.pack(weight)
    truth = round_bfloat16(x).astype(np.float64) @ scheme.unpack(parts, n, k).T + bias
    (y,) = run(kernel, [x, *parts.values(), bias], np.full((m, n), np.nan, np.float32))
    tolerance.check(y, truth)


def as_unpacked(weight: np.ndarray) -> np.ndarray:
    """float32 numbers, rounded to bfloat16 like unpacked nibbles: ties away from zero."""
    return ((weight.view(np.uint32) + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32)


# --- results ---


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_bfloat16(emulator: Emulator, n: int, k: int) -> None:
    scheme = find_scheme("bf16", TILES)
    kernel = compiled(floats(scheme, n, k))
    for m in HEIGHTS:
        check_floats(kernel, scheme, m, n, k)


@pytest.mark.parametrize(("n", "k"), SHAPES[1:3])
def test_four_bits_are_unpacked_to_bfloat16(emulator: Emulator, n: int, k: int) -> None:
    """Weight times scale is rounded once more, to 8 bits of mantissa."""
    scheme = find_scheme("w4a8", TILES)
    kernel = compiled(floats(scheme, n, k))
    for m in HEIGHTS:
        check_floats(kernel, scheme, m, n, k, UNPACKED_KERNEL)


@pytest.mark.parametrize(("n", "k"), [(48, 768), (64, 750)], ids=["odd", "even"])
@pytest.mark.parametrize("chunk", [4, 12])
def test_sums_go_on_in_the_next_chunk(emulator: Emulator, chunk: int, n: int, k: int) -> None:
    """Blocks of rows that are partial, or missing, in a task of several; an epilogue."""
    scheme = find_scheme("w4a8", TILES)
    sch = Schedule(floats(scheme, n, k))
    assert schedule_tiles(sch, Written({"chunk": chunk, "rows_per_block": 2}))
    kernel = tvm.compile(emulated(configure_tiles()(sch.mod)), HOST)["main"]
    for m in (1, 33, 150):
        check_floats(kernel, scheme, m, n, k, UNPACKED_KERNEL)


@pytest.mark.parametrize(("f", "k"), [(16, 50), (48, 768)], ids=["whole", "chunks"])
@pytest.mark.parametrize("results", [PLAIN, FETCHED])
def test_gates_meet_their_values_in_the_epilogue(
    emulator: Emulator, results: int, f: int, k: int
) -> None:
    scheme = find_scheme("w4a8", TILES)
    x = placeholder((M, k), "float32", "x")
    parts = [placeholder(s, d, name) for name, (s, d) in scheme.shapes(2 * f, k).items()]
    func = te.create_prim_func([x, *parts, gated_matmul(x, f, *parts)])
    sch = Schedule(func.with_attr("global_symbol", "main"))
    assert schedule_tiles(sch, Written({"results": results}))
    kernel = tvm.compile(emulated(configure_tiles()(sch.mod)), HOST)["main"]
    packed = scheme.pack(normal(2 * f, k))
    weight = as_unpacked(scheme.unpack(packed, 2 * f, k))
    for m in (1, 33, 300):
        rows = normal(m, k)
        (y,) = run(kernel, [rows, *packed.values()], np.full((m, f), np.nan, np.float32))
        both = round_bfloat16(rows).astype(np.float64) @ weight.T
        gate, up = both[:, :f], both[:, f:]
        PRODUCT_OF_TWO.check(y, gate / (1 + np.exp(-gate)) * up)


def test_a_static_number_of_rows_in_chunks(emulator: Emulator) -> None:
    """Fewer rows than a block of sums has."""
    scheme = find_scheme("w4a8", TILES)
    sch, noted = Schedule(floats(scheme, 64, 768, 9)), Noted()
    assert schedule_tiles(sch, noted) and noted.values["chunk"] == 12
    kernel = tvm.compile(emulated(configure_tiles()(sch.mod)), HOST)["main"]
    check_floats(kernel, scheme, 9, 64, 768, UNPACKED_KERNEL)


def test_the_sums_of_a_short_input_stay_in_tiles() -> None:
    """A chunk has at least 8 steps, of at least 17."""
    for steps, chunk in ((4, ALL_STEPS), (16, ALL_STEPS), (20, ALL_STEPS), (48, 16), (120, 12)):
        noted = Noted()
        func = floats(find_scheme("w4a8", TILES), 32, steps * 32)
        assert schedule_tiles(Schedule(func), noted) and noted.values["chunk"] == chunk


@pytest.mark.parametrize("avx512", [False, True])
def test_unpacked_nibbles_are_exact(avx512: bool) -> None:
    """Every code in every position, times scales of all magnitudes: the nearest bfloat16."""
    if avx512 and find_units(HOST).floats is not ZMM_FLOATS:
        pytest.skip("this CPU has no AVX-512")
    codes = RNG.integers(0, 256, (1, 1, 4, 16, 4), np.uint8)
    scale = np.ldexp(normal(1, 1, 16), RNG.integers(-14, 12, (1, 1, 16))).astype(np.float16)
    parts = [placeholder(codes.shape, "uint8", "w"), placeholder(scale.shape, "float16", "f")]
    sch = Schedule(te.create_prim_func([*parts, nibbles_to_words(*parts)]))
    sch.tensorize(sch.get_loops("words")[-2], nibbles_intrinsic(Unpacking(avx512=avx512)))
    kernel = tvm.compile(sch.mod, HOST)["main"]
    (words,) = run(kernel, [codes, scale], np.zeros((1, 1, 16, 16), np.uint32))
    halves = codes.reshape(4, 16, 4).transpose(1, 0, 2).reshape(16, 16)  # (outputs, bytes)
    values = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32) - 8
    values *= scale[0, 0].astype(np.float32)[:, None]
    got = words[0, 0].T.copy().view("<u2").astype(np.uint32) << 16  # (outputs, 32 inputs)
    assert np.array_equal(got.view(np.float32), as_unpacked(values))


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize(("n", "k"), SHAPES[1:])
def test_bytes(emulator: Emulator, bits: int, n: int, k: int) -> None:
    scheme = Integer("s", bits, 0.0, units=TILES)
    kernel = compiled(product(M, n, k, scheme))
    parts = scheme.pack(normal(n, k))
    for m in HEIGHTS:
        x = quantized(normal(m, k), scheme.codes, scheme.depth(k))
        (y,) = run(kernel, [*x, *parts.values()], np.full((m, n), np.nan, np.float32))
        KERNEL.check(y, multiplied(x, scheme.unpack(parts, n, k), scheme.codes))


PACES: list[dict[str, int]] = [
    {},
    {"overlap": 0},
    {"results": 1},
    {"results": 0, "overlap": 0, "ahead": 0},
    {"tile_panels": 1, "tile_rows": 2},
]


@pytest.mark.parametrize(("n", "pace"), thinned(3, [112, 100], PACES))
def test_each_pace_of_a_task(emulator: Emulator, n: int, pace: dict[str, int]) -> None:
    """An odd number of panels, blocks of 64 rows, and a residual."""
    scheme, k = find_scheme("bf16", TILES), 200
    choices = Written({**pace, "rows_per_block": 2})
    kernel = compiled(residual(scheme, n, k), choices=choices)
    choices.check()
    weight, bias = normal(n, k), normal(n)
    parts = scheme.pack(weight)
    for m in (1, 32, 33, 150):
        x, before = normal(m, k), normal(m, n)
        truth = round_bfloat16(x).astype(np.float64) @ scheme.unpack(parts, n, k).T + bias + before
        given = [x, *parts.values(), bias, before]
        (y,) = run(kernel, given, np.full((m, n), np.nan, np.float32))
        KERNEL.check(y, truth)


def residual(scheme: Scheme, n: int, k: int) -> tirx.PrimFunc:
    """`floats`, plus a matrix."""
    x, bias = placeholder((M, k), "float32", "x"), placeholder((n,), "float32", "bias")
    before = placeholder((M, n), "float32", "before")
    parts = [placeholder(s, d, name) for name, (s, d) in scheme.shapes(n, k).items()]
    y = layers.product(scheme, selection_of(scheme).many_rows, (n, k), 1, x, *parts)
    out = te.compute(y.shape, lambda i, j: before[i, j] + (y[i, j] + bias[j]), name="added")
    return te.create_prim_func([x, *parts, bias, before, out])


def test_extreme_bytes(emulator: Emulator) -> None:
    """All activations at the maximum, all weights at the minimum or maximum."""
    scheme = Integer("s", 8, 0.0, units=TILES)
    weight = np.where(np.arange(32)[:, None] % 2, 1.0, -1.0).astype(np.float32) * np.ones(
        (1, 128), "f4"
    )
    parts = scheme.pack(weight)
    x = quantized(np.ones((3, 128), np.float32), scheme.codes, 128)
    kernel = compiled(product(M, 32, 128, scheme))
    (y,) = run(kernel, [*x, *parts.values()], np.zeros((3, 32), np.float32))
    KERNEL.check(y, multiplied(x, scheme.unpack(parts, 32, 128), scheme.codes))


def test_blocks_of_rows(emulator: Emulator) -> None:
    """More rows than fit the cache, with a partial last block."""
    scheme = find_scheme("bf16", TILES)
    kernel = compiled(floats(scheme, 96, 96), l2=2 * 2 * 32 * 96 * 2)
    for m in (64, 65, 150):
        check_floats(kernel, scheme, m, 96, 96)


def test_blocks_follow_the_cache_of_the_target() -> None:
    device = known_targets()["x86-64-amx"]
    func = floats(find_scheme("bf16", TILES), 64, 96)

    def scheduled(l2: int) -> str:
        rules = replace(device, l2=l2).rules
        taken = schedule_function(func, rules, tvm.target.Target(device.tvm))
        assert taken is not None and taken[1].name == "cpu-tiles"
        return str(taken[0].mod.script())

    assert scheduled(1 << 20) == scheduled(1 << 20) != scheduled(64 << 10)


def test_a_height_that_is_known(emulator: Emulator) -> None:
    """A static number of rows, as the resampler's queries have; one odd panel, one row block."""
    scheme = Integer("s", 8, 0.0, units=TILES)
    kernel = compiled(product(9, 48, 64, scheme))
    parts = scheme.pack(normal(48, 64))
    x = quantized(normal(9, 64), scheme.codes, 64)
    (y,) = run(kernel, [*x, *parts.values()], np.zeros((9, 48), np.float32))
    KERNEL.check(y, multiplied(x, scheme.unpack(parts, 48, 64), scheme.codes))


def test_the_tunable_space_holds_choices_and_each_is_right(emulator: Emulator) -> None:
    scheme = find_scheme("bf16", TILES)
    seen = set()
    for seed in range(1, 6):
        sch = Schedule(floats(scheme, 64, 256), seed=seed)
        assert schedule_tiles(sch, Open())
        seen.add(tuple(int(n) for n in sch.trace.decisions.values()))
        kernel = tvm.compile(emulated(configure_tiles()(sch.mod)), HOST)["main"]
        check_floats(kernel, scheme, 70, 64, 256)
    assert len(seen) > 1, "all samples have the same choices"


def test_a_bad_activation_stays_in_its_row(emulator: Emulator) -> None:
    scheme = find_scheme("bf16", TILES)
    kernel = compiled(floats(scheme, 32, 64))
    x = normal(5, 64)
    x[2, 40] = np.nan
    parts = scheme.pack(normal(32, 64)).values()
    (y,) = run(kernel, [x, *parts, normal(32)], np.zeros((5, 32), np.float32))
    assert np.isnan(y[2]).all() and np.isfinite(np.delete(y, 2, 0)).all()


# --- configuration ---


def test_configured_once_per_task(emulator: Emulator) -> None:
    scheme = find_scheme("bf16", TILES)
    kernel = compiled(floats(scheme, 128, 96))
    emulator.reset()
    check_floats(kernel, scheme, 64, 128, 96)
    counts = emulator.counts
    assert 1 <= counts["configured"] == counts["released"] <= THREADS
    blocks, steps = 64 // 32 * (128 // 32), 96 // 32
    assert counts["multiplied"] == 4 * steps * blocks
    assert counts["loaded"] == 4 * steps * blocks
    assert counts["zeroed"] == counts["stored"] == 4 * blocks


def test_code_that_forgets_to_configure_is_caught(faulty_emulator: Emulator) -> None:
    scheme = find_scheme("bf16", TILES)
    kernel = compiled(floats(scheme, 32, 64), configure=False)
    parts = scheme.pack(normal(32, 64)).values()
    run(kernel, [normal(5, 64), *parts, normal(32)], np.zeros((5, 32), np.float32))
    count, first = faulty_emulator.errors
    assert count > 0 and first == "a tile instruction before ldtilecfg"


def test_shapes_outside_the_configuration_are_caught(faulty_emulator: Emulator) -> None:
    library = faulty_emulator.library
    memory = bytearray(configuration())
    memory[48 + 6] = TILE // 2  # weights of half a step
    for broken, reason in ((bytes(memory), "do not fit"), (bytes(64), "not palette 1")):
        faulty_emulator.reset()
        library.handglass_emulated_ldtilecfg(broken)
        library.handglass_emulated_tdpbf16ps(0, 4, 6)
        assert faulty_emulator.errors[0] > 0 and reason in faulty_emulator.errors[1]
    library.handglass_emulated_tilerelease()


def test_functions_without_tiles_are_left_alone() -> None:
    sch = Schedule(floats(find_scheme("bf16", TILES), 32, 64))
    tvm.ir.assert_structural_equal(configure_tiles()(sch.mod), sch.mod)
