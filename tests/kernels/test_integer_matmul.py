"""Integer matmuls: every instruction set, on this machine or emulated, against numpy."""

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from levels import BY_INSTRUCTION, LEVELS, Level
from thinned import thinned
from tolerance import KERNEL
from tvm import te, tirx

from handglass.compiler.models import layers
from handglass.compiler.ops.quantize_rows import quantize_rows
from handglass.compiler.schemes.integer import Integer
from handglass.compiler.schemes.scheme import selection_of
from handglass.schedules import CPU_RULES
from handglass.schedules.choices import DEFAULTS, Open
from handglass.schedules.isa.integer_isa import (
    AVX512_VNNI,
    GROUP,
    INTEGER_ISAS,
    PLAIN,
    Codes,
    IntegerIsa,
    find_integer_isa,
)
from handglass.schedules.rule import schedule_function
from handglass.schedules.select import INTEGERS, cpu_units, find_units
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.levels, pytest.mark.slow]

HOST = tvm.target.Target(find_target("host").tvm)
RNG = np.random.default_rng(11)
BITS = (4, 7, 8)
SHAPES = [(1, 37, 50), (1, 64, 96), (7, 200, 333), (13, 48, 64)]

X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}
ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}
TARGETS = {
    "avx2": {**X86, "mcpu": "x86-64-v3"},
    "avx-vnni": {**X86, "mcpu": "x86-64-v3", "mattr": ["+avxvnni"]},
    "avx512": {**X86, "mcpu": "x86-64-v4"},
    "avx512-vnni": {**X86, "mcpu": "x86-64-v4", "mattr": ["+avx512vnni"]},
    "sdot": {**ARM, "mcpu": "cortex-a76"},
    "i8mm": {**ARM, "mcpu": "cortex-x2", "mattr": ["-sve", "-sve2"]},
    "plain": {**X86, "mcpu": "x86-64-v2"},
}
INSTRUCTION = {
    ("avx2", 4): "vpmaddubsw", ("avx2", 8): "vpmaddwd", ("avx-vnni", 4): "vpdpbusd",
    ("avx-vnni", 8): "vpdpbusd", ("avx512-vnni", 4): "vpdpbusd", ("avx512-vnni", 8): "vpdpbusd",
    ("avx2", 7): "vpmaddubsw", ("avx-vnni", 7): "vpdpbusd", ("avx512-vnni", 7): "vpdpbusd",
    ("avx512", 4): "vpmaddubsw", ("avx512", 7): "vpmaddubsw", ("avx512", 8): "vpmaddwd",
    ("sdot", 4): "sdot", ("sdot", 7): "sdot", ("sdot", 8): "sdot",
    ("i8mm", 4): "smmla", ("i8mm", 7): "smmla", ("i8mm", 8): "smmla",
}  # fmt: skip


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def groups_of(codes: Codes, depth: int) -> int:
    return depth // GROUP if codes.bits == 4 else 1


def placeholder(shape, dtype: str, name: str) -> te.Tensor:
    """A placeholder with int64 extents, as in Relax."""
    dims = [tirx.IntImm("int64", n) if isinstance(n, int) else n for n in shape]
    return te.placeholder(dims, dtype, name=name)


def product(m, n: int, k: int, scheme: Integer) -> tirx.PrimFunc:
    """From float32 rows to float32 results: the stages of the quantizer and of the matmul."""
    codes, depth = scheme.codes, scheme.depth(k)
    groups = groups_of(codes, depth)
    x = placeholder((m, depth), codes.activation, "x")
    scale = placeholder((m, groups), "float32", "x_scale")
    offset = placeholder((m, groups), "int32", "offset") if codes.zero else None
    parts = [placeholder(s, d, name) for name, (s, d) in scheme.shapes(n, k).items()]
    rows = [x, scale, *([offset] if offset is not None else [])]
    kernel = selection_of(scheme).kernel(isinstance(m, int) and m == 1)
    if kernel.activations != INTEGERS:  # rows as bfloat16 in tiles: test_amx.py
        kernel = selection_of(scheme).one_row
    y = layers.product(scheme, kernel, (n, k), len(rows), *rows, *parts)
    return te.create_prim_func([*rows, *parts, y]).with_attr("global_symbol", "main")


def quantized(x: np.ndarray, codes: Codes, depth: int) -> list[np.ndarray]:
    """A simple quantizer, with the offset from the sums of codes if weights have a zero point."""
    m, k = x.shape
    groups = groups_of(codes, depth)
    rows = np.pad(x, ((0, 0), (0, depth - k))).reshape(m, groups, -1)
    peak = np.abs(rows).max(-1, keepdims=True)
    factor = np.divide(np.float32(127), peak, out=np.zeros_like(peak), where=peak > 0)
    q = np.rint(rows * factor).astype(np.int32)
    scale = peak[..., 0] / np.float32(127) / np.float32(codes.magnify)
    out = [q.reshape(m, depth).astype(codes.activation), scale]
    return [*out, (-codes.zero * q.sum(-1)).astype(np.int32)] if codes.zero else out


def multiplied(x: list[np.ndarray], weight: np.ndarray, codes: Codes) -> np.ndarray:
    """float64 product of the dequantized values."""
    m, depth = x[0].shape
    values = x[0].reshape(m, x[1].shape[1], -1) * x[1][..., None].astype(np.float64)
    padded = np.pad(weight.astype(np.float64), ((0, 0), (0, depth - weight.shape[1])))
    return values.reshape(m, depth) * codes.magnify @ padded.T


def compiled(func: tirx.PrimFunc, level: Level, tunable_seed: int | None = None):
    sch = level.schedule(func, DEFAULTS if tunable_seed is None else Open(), tunable_seed)
    return sch, level.compile(sch)


def run(kernel, inputs: list[np.ndarray], *outputs: np.ndarray) -> list[np.ndarray]:
    results = [tvm.runtime.tensor(out) for out in outputs]
    kernel(*map(tvm.runtime.tensor, inputs), *results)
    return [result.numpy() for result in results]


each_level = pytest.mark.parametrize("level", LEVELS.values(), ids=lambda level: level.name)
by_instruction = pytest.mark.parametrize("level", BY_INSTRUCTION, ids=lambda level: level.name)


@pytest.mark.parametrize(("level", "bits", "shape"), thinned(11, LEVELS.values(), BITS, SHAPES))
def test_product(level: Level, bits: int, shape: tuple[int, int, int]) -> None:
    """All layouts and loops; with the real instruction if this machine has it."""
    m, n, k = shape
    scheme = Integer("s", bits, 0.0, units=cpu_units(level.isa))
    rows = m if m == 1 else tirx.Var("m", "int64")
    _, kernel = compiled(product(rows, n, k, scheme), level)
    weight = normal(n, k)
    parts = scheme.pack(weight)
    x = quantized(normal(m, k), scheme.codes, scheme.depth(k))
    (y,) = run(kernel, [*x, *parts.values()], np.zeros((m, n), np.float32))
    KERNEL.check(y, multiplied(x, scheme.unpack(parts, n, k), scheme.codes))


@pytest.mark.parametrize("bits", BITS)
@by_instruction
def test_the_largest_integers_do_not_overflow(level: Level, bits: int) -> None:
    """Portable arithmetic could not: only the instruction has sums of 16 bits."""
    scheme = Integer("s", bits, 0.0, units=cpu_units(level.isa))
    weight = np.where(np.arange(64) % 3, 1.0, -1.0).astype(np.float32) * np.ones(
        (16, 1), np.float32
    )
    parts = scheme.pack(weight)
    _, kernel = compiled(product(1, 16, 64, scheme), level)
    for rows in (weight[:1], -weight[:1], np.ones((1, 64), np.float32)):
        x = quantized(rows, scheme.codes, scheme.depth(64))
        (y,) = run(kernel, [*x, *parts.values()], np.zeros((1, 16), np.float32))
        np.testing.assert_allclose(
            y, multiplied(x, scheme.unpack(parts, 16, 64), scheme.codes), rtol=1e-6
        )


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("isa", INTEGER_ISAS, ids=lambda isa: isa.name)
def test_pack_and_unpack(isa: IntegerIsa, bits: int) -> None:
    """Every layout stores the same values, and they are close to the weights."""
    weight = normal(37, 50)
    scheme = Integer("s", bits, 0.0, units=cpu_units(isa))
    parts = scheme.pack(weight)
    assert {n: (p.shape, p.dtype.name) for n, p in parts.items()} == scheme.shapes(37, 50)
    kept = scheme.unpack(parts, 37, 50)
    plain = Integer("s", bits, 0.0)
    assert np.array_equal(kept, plain.unpack(plain.pack(weight), 37, 50))
    noise = np.square(kept - weight).sum() / np.square(weight).sum()
    assert noise < {4: 1e-2, 7: 4e-4, 8: 1e-4}[bits]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("value", [0.0, 3.5, -3.5])
def test_weights_that_are_all_equal_are_kept(bits: int, value: float) -> None:
    weight = np.full((16, 64), value, np.float32)
    scheme = Integer("s", bits, 0.0)
    np.testing.assert_allclose(scheme.unpack(scheme.pack(weight), 16, 64), weight, rtol=1e-3)


def test_one_huge_weight_costs_its_own_group_only() -> None:
    weight = normal(16, 96)
    weight[3, 40] = 1e4
    scheme = Integer("s", 4, 0.0)
    kept = scheme.unpack(scheme.pack(weight), 16, 96)
    assert abs(kept[3, 40] / 1e4 - 1) < 1e-3
    elsewhere = np.ones_like(weight, bool)
    elsewhere[3, 32:64] = False
    assert np.square((kept - weight)[elsewhere]).sum() < 1e-2 * np.square(weight[elsewhere]).sum()


# --- the activations ---


def quantizer(m, k: int, codes: Codes, depth: int):
    x = placeholder((m, k), "float32", "x")
    func = te.create_prim_func([x, *quantize_rows(x, codes, depth)])
    taken = schedule_function(func.with_attr("global_symbol", "main"), CPU_RULES, HOST)
    assert taken is not None and taken[1].name == "cpu-rows"
    return tvm.compile(taken[0].mod, HOST)["main"]


def empty(m: int, codes: Codes, depth: int) -> list[np.ndarray]:
    groups = groups_of(codes, depth)
    out = [np.zeros((m, depth), codes.activation), np.zeros((m, groups), np.float32)]
    return [*out, np.zeros((m, groups), np.int32)] if codes.zero else out


@pytest.mark.parametrize(("isa", "bits", "k"), thinned(7, INTEGER_ISAS, BITS, [32, 50, 333]))
def test_quantize_rows(isa: IntegerIsa, bits: int, k: int) -> None:
    codes, depth = isa.codes(bits), -(-k // GROUP) * GROUP
    for rows, sizes in ((1, [1]), (tirx.Var("m", "int64"), [2, 9])):
        kernel = quantizer(rows, k, codes, depth)
        for m in sizes:
            x = normal(m, k) * 5
            x[0, : min(k, 32)] = 0  # a group without a peak
            truth = quantized(x, codes, depth)
            for actual, expected in zip(
                run(kernel, [x], *empty(m, codes, depth)), truth, strict=True
            ):
                assert actual.dtype == expected.dtype
                if actual.dtype == np.float32:
                    np.testing.assert_allclose(actual, expected, rtol=1e-6)
                else:
                    assert np.abs(actual.astype(int) - expected).max() <= 1 * (codes.zero or 1)


def test_codes_are_rounded_as_numpy_does() -> None:
    """Halves go to the even integer, in both signs."""
    codes = cpu_units(PLAIN).integers.codes(8)
    x = np.concatenate([np.arange(-253, 254) / 2, [127.0, -127.0, -0.0, 1e-30, -1e-30]])
    x = x.astype(np.float32)[None, : 512 - 512 % GROUP]
    kernel = quantizer(tirx.Var("m", "int64"), x.shape[1], codes, x.shape[1])
    assert np.abs(x).max() == 127, "codes are the rounded values themselves"
    got, *_ = run(kernel, [x], *empty(1, codes, x.shape[1]))
    assert np.array_equal(got, np.rint(x).astype(np.int8))


def test_codes_are_computed_in_vectors() -> None:
    """TVM makes scalars of vectors of an operator that it cannot vectorize, such as nearbyint."""
    target = tvm.target.Target(TARGETS["avx512"])
    x, codes = placeholder((tirx.Var("m", "int64"), 512), "float32", "x"), AVX512_VNNI.codes(8)
    func = te.create_prim_func([x, *quantize_rows(x, codes, 512)])
    taken = schedule_function(func.with_attr("global_symbol", "main"), CPU_RULES, target)
    assert taken is not None and taken[1].name == "cpu-rows"
    text = tvm.compile(taken[0].mod, target).mod.inspect_source("asm")
    assert "vpmovdb" in text and "vpextrb" not in text and "gather" not in text


@pytest.mark.parametrize(("level", "bits"), thinned(3, BY_INSTRUCTION, BITS))
def test_a_bad_activation_shows_in_the_result(level: Level, bits: int) -> None:
    """It must neither crash nor become a finite number, and must not affect other rows."""
    scheme = Integer("s", bits, 0.0, units=cpu_units(level.isa))
    codes, depth = scheme.codes, scheme.depth(64)
    rows = tirx.Var("m", "int64")
    quantize = quantizer(rows, 64, codes, depth)
    _, kernel = compiled(product(rows, 16, 64, scheme), level)
    packed = scheme.pack(normal(16, 64))
    for bad in (np.nan, np.inf, -np.inf):
        x = normal(7, 64)
        x[2, 40] = bad
        with np.errstate(all="ignore"):
            parts = run(quantize, [x], *empty(7, codes, depth))
        assert not np.isfinite(parts[1][2]).all() and np.isfinite(np.delete(parts[1], 2, 0)).all()
        (y,) = run(kernel, [*parts, *packed.values()], np.zeros((7, 16), np.float32))
        assert not np.isfinite(y[2]).any() and np.isfinite(np.delete(y, 2, 0)).all()


# --- the schedules ---


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("m", [1, 13])
@by_instruction
@pytest.mark.large  # test_spaces.py checks a candidate of each
def test_the_tunable_space_holds_choices_and_each_is_right(level: Level, bits: int, m: int) -> None:
    scheme = Integer("s", bits, 0.0, units=cpu_units(level.isa))
    rows = m if m == 1 else tirx.Var("m", "int64")
    weight = normal(64, 96)
    parts = scheme.pack(weight)
    x = quantized(normal(m, 96), scheme.codes, scheme.depth(96))
    truth = multiplied(x, scheme.unpack(parts, 64, 96), scheme.codes)
    seen = set()
    for seed in range(1, 4):
        sch, kernel = compiled(product(rows, 64, 96, scheme), level, seed)
        seen.add(tuple(int(n) for n in sch.trace.decisions.values()))
        (y,) = run(kernel, [*x, *parts.values()], np.zeros((m, 64), np.float32))
        KERNEL.check(y, truth)
    assert len(seen) > 1, "all samples have the same choices"


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_finds_its_instructions(name: str) -> None:
    assert find_integer_isa(tvm.target.Target(TARGETS[name])).name == name


@pytest.mark.parametrize(("case", "m"), thinned(2, INSTRUCTION, [1, 12]))
def test_the_instruction_is_in_the_machine_code(case: tuple[str, int], m: int) -> None:
    name, bits = case
    target = tvm.target.Target(TARGETS[name])
    scheme = Integer("s", bits, 0.0, units=find_units(target))
    taken = schedule_function(product(m, 64, 128, scheme), CPU_RULES, target)
    assert taken is not None and taken[1].name in ("cpu-dot", "cpu-pairs")
    text = tvm.compile(taken[0].mod, target).mod.inspect_source("asm")
    wanted = INSTRUCTION[name, bits]
    assert (wanted if m > 1 else wanted.replace("smmla", "sdot")) in text  # pairs take two rows
