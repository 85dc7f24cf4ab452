"""Probes of AMX tile registers, emulated and as machine code, and the limits based on them."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from test_amx import HOST, emulator, faulty_emulator  # noqa: F401 - fixtures
from tile_emulator import Emulator, emulated
from tvm import relax

from handglass.compiler.lowering import dot_probe
from handglass.compiler.lowering.amx_probes import (
    CHAINS,
    VALUES,
    tile_kernel,
    tile_products,
    tile_width,
)
from handglass.compiler.lowering.dot_probe import dot_kernel
from handglass.compiler.lowering.probe_function import add_chains
from handglass.compiler.lowering.probes import add_probes
from handglass.compiler.records.coverage import nominal_rate
from handglass.compiler.tuning.limits import Limits, _cpu_probes
from handglass.runtime.bundle import probes as at_run_time
from handglass.runtime.bundle.probes import DOT4, DOT8, FMA, READ, TILE_BF16, TILE_INT8, arithmetic
from handglass.runtime.bundle.report import Kernel
from handglass.runtime.measure import limits
from handglass.runtime.measure.bench import Benchmark
from handglass.runtime.measure.kernels import Calls, Phase, rows
from handglass.schedules.isa.amx_configuration import configure_tiles, configured
from handglass.schedules.isa.amx_instructions import INT8, PRODUCTS, TILE, TileProduct
from handglass.schedules.isa.integer_isa import AMX, I8MM, INTEGER_ISAS
from handglass.targets import find_target, known_targets
from handglass.targets.codegen.build import build_library
from handglass.targets.codegen.llvm.assembly import hot_loops
from handglass.targets.presets.x86 import AMX_FLAGS

pytestmark = pytest.mark.compiler

DEVICE = known_targets()["x86-64-amx"]
BASE = ["probe_dot4", "probe_dot8", "probe_fma", "probe_read"]
both = pytest.mark.parametrize("product", PRODUCTS.values(), ids=list(PRODUCTS))


def expected(product: TileProduct, rounds: int) -> np.ndarray:
    """The result of one task, from the documented operands of the probe."""
    inputs = product.inputs
    x = (np.arange(TILE)[:, None] + np.arange(inputs)) % 5 - 2
    k = np.arange(VALUES * product.pair if not product.packed else VALUES)
    values = [k % 7, k % 7 - 3] if product.packed else [k % 7]
    # (inputs / pair, 16 outputs, pair), as the weights of a matmul are packed
    weights = np.stack(values, axis=-1).reshape(inputs // product.pair, TILE, product.pair)
    sums = x @ weights.transpose(0, 2, 1).reshape(inputs, TILE)
    start = np.arange(CHAINS)[:, None, None]
    return np.tile((start + rounds * sums).ravel(), inputs)


def compiled(product: TileProduct) -> Any:
    func = tile_kernel(product).with_attr("global_symbol", "main")
    return tvm.compile(emulated(configure_tiles()(tvm.IRModule({"main": func}))), HOST)["main"]


@both
@pytest.mark.parametrize("rounds", [0, 1, 7])
def test_tiles_do_every_round(emulator: Emulator, product: TileProduct, rounds: int) -> None:  # noqa: F811
    tasks = 3
    out = tvm.runtime.tensor(np.full((tasks, tile_width(product)), 77, product.sums))
    compiled(product)(rounds, out)
    counts = emulator.counts
    assert counts["multiplied"] == tasks * rounds * CHAINS
    assert 1 <= counts["configured"] == counts["released"] <= tasks
    np.testing.assert_array_equal(out.numpy(), np.tile(expected(product, rounds), (tasks, 1)))


@both
def test_as_a_function_of_a_bundle(
    emulator: Emulator,  # noqa: F811
    product: TileProduct,
    tmp_path: Path,
) -> None:
    """As add_tile_probes adds it, with emulated instructions, and called as in the benchmark."""
    builder, path = relax.BlockBuilder(), tmp_path / "lib.so"
    kernel = configured(tile_kernel(product))
    add_chains(builder, "probe", kernel, tile_width(product), product.sums)
    build_library(emulated(builder.get()), find_target("host"), path)
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    found = machine["probe"](tvm.runtime.ShapeTuple([2, 5])).numpy()
    np.testing.assert_array_equal(found, np.tile(expected(product, 5), (2, 1)))


def test_the_library_of_a_bundle_can_be_built(tmp_path: Path) -> None:
    build_library(add_probes(tvm.IRModule(), DEVICE), DEVICE, tmp_path / "lib.so")
    assert b"probe_tile_bf16" in (tmp_path / "lib.so").read_bytes()


@both
def test_a_value_is_worth_one_product_of_a_round(product: TileProduct) -> None:
    """The benchmark counts two operations per value, as for every other probe."""
    assert tile_width(product) == CHAINS * TILE * TILE * product.inputs


@both
def test_a_round_is_multiplications_alone(product: TileProduct) -> None:
    """The operands are loaded before the loop, and no sum leaves its tile inside it."""
    target = tvm.target.Target(DEVICE.tvm)
    func = tile_kernel(product).with_attr("global_symbol", "main")
    mod = configure_tiles()(tvm.IRModule({"main": func}))
    text = tvm.compile(mod, target).mod.inspect_source("asm")
    name = product.instruction.rsplit(".", 1)[1]
    code = [line.split()[0] for line in text.splitlines() if re.match(r"\s+[a-z]", line)]
    assert code.count("ldtilecfg") == code.count("tilerelease") == 1
    assert code.index("ldtilecfg") < code.index("tileloadd") < code.index(name)
    assert code.count("tileloadd") == CHAINS + 2
    assert not re.search(r"tilestored.*%rsp", text), "a sum is spilled to the stack"
    loops = [b for b in re.split(r"\n(?=\.LBB)", text) if name in b]
    for block in loops:
        body = block[: block.index("\n\tj")]
        assert body.count(name) % CHAINS == 0
        assert "tileload" not in body and "tilestore" not in body
        registers = re.findall(rf"{name}\s+%tmm(\d), %tmm(\d), %tmm(\d)", body)
        assert {c for *_, c in registers} == {str(c) for c in range(CHAINS)}
        assert {tuple(sorted(rest)) for *rest, _ in registers} == {("6", "7")}
    assert loops


# --- machines with tile probes ---


def exported(device: Any) -> list[str]:
    names = [var.name_hint for var, _ in add_probes(tvm.IRModule(), device).functions_items()]
    return sorted(name for name in names if not name.endswith("_kernel"))


def test_only_machines_with_tiles_have_them() -> None:
    assert exported(DEVICE) == sorted([*BASE, "probe_tile_int8", "probe_tile_bf16"])
    for name in ("x86-64-v3", "x86-64-v4", "arm64", "jetson-thor-cpu", "vulkan"):
        assert exported(known_targets()[name]) == BASE, name
    assert [isa.name for isa in INTEGER_ISAS if tile_products(isa)] == ["amx"]


def test_in_a_bundle_each_task_configures_its_tiles() -> None:
    mod = add_probes(tvm.IRModule(), DEVICE)
    for name in ("int8", "bf16"):
        text = mod[f"probe_tile_{name}_kernel"].script()
        assert text.count("pragma_parallel_launch_point") == 1
    assert "pragma_parallel_launch_point" not in mod["probe_fma_kernel"].script()


def test_the_tuner_measures_the_same_ones() -> None:
    kinds = [probe.kind for probe in _cpu_probes(DEVICE, 4)]
    assert kinds == [READ, FMA, DOT4, DOT8, TILE_INT8, TILE_BF16]
    assert [p.kind for p in _cpu_probes(known_targets()["x86-64-v4"], 4)] == [READ, FMA, DOT4, DOT8]
    probe = next(p for p in _cpu_probes(DEVICE, 4) if p.kind == TILE_INT8)
    assert probe.items[1]["shape"] == [4, tile_width(INT8)]
    assert probe.work == 2.0 * 4 * tile_width(INT8) * limits.ROUNDS


def test_sums_do_not_overflow_in_so_many_rounds() -> None:
    """A product of tiles is exact only if its sums fit int32."""
    assert abs(expected(INT8, limits.ROUNDS)).max() < 2**31


# --- limits based on them ---


@pytest.mark.parametrize(
    ("patterns", "kind"),
    [
        (("rows", "tile-int8"), TILE_INT8),
        (("rows", "tile-bf16", "words"), TILE_BF16),
        (("dot4", "scaled"), DOT4),
        (("dot7", "scaled"), DOT8),
        (("dot8", "rows", "scaled"), DOT8),
        (("pair4", "rows", "scaled"), DOT8),
        (("pair8", "in_rows"), DOT8),
        (("halves8", "in_rows"), DOT8),
        (("matmul", "rows"), FMA),
        ((), FMA),
    ],
)
def test_a_kernel_is_held_against_its_own_unit(patterns: tuple[str, ...], kind: str) -> None:
    assert Kernel("f", "", 1, patterns, None).limit == kind


@pytest.mark.parametrize(
    ("scheme", "vectors", "tiles"),
    [
        *(("f32", FMA, FMA), ("f16", FMA, FMA), ("w4", FMA, FMA), ("bf16", FMA, TILE_BF16)),
        *(("w4a8", DOT4, TILE_BF16), ("w7a8", DOT8, TILE_INT8), ("w8a8", DOT8, TILE_INT8)),
    ],
)
def test_many_rows_of_a_scheme(scheme: str, vectors: str, tiles: str) -> None:
    assert (
        arithmetic(scheme) == arithmetic(scheme, known_targets()["x86-64-v4"].features) == vectors
    )
    assert arithmetic(scheme, ("amx_tile", "amx_int8", "amx_bf16")) == vectors, "not all of them"
    assert arithmetic(scheme, DEVICE.features) == tiles


def test_many_rows_with_smmla() -> None:
    features = known_targets()["android-arm64-i8mm"].features
    found = {scheme: arithmetic(scheme, features) for scheme in ("w4", "w4a8", "w7a8", "w8a8")}
    assert found == {"w4": FMA, "w4a8": DOT8, "w7a8": DOT8, "w8a8": DOT8}


def test_the_probe_of_bytes_measures_smmla() -> None:
    target = tvm.target.Target(known_targets()["android-arm64-i8mm"].tvm)
    func = dot_kernel(I8MM, 8).with_attr("global_symbol", "main")
    text = tvm.compile(tvm.IRModule({"main": func}), target).mod.inspect_source("asm")
    first, *_ = hot_loops(text, "smmla")
    assert first.count("smmla") == dot_probe.CHAINS


def test_both_rooms_mean_the_same_features() -> None:
    assert set(AMX_FLAGS) == at_run_time.TILE_FEATURES
    assert [f.replace("-", "") for f in AMX.features] == [f.replace("_", "") for f in AMX_FLAGS]


def test_tile_kernels_have_a_nominal_rate_whatever_vectors_are_wide() -> None:
    narrow = replace(DEVICE, vector_bits=256)
    for kind in (TILE_INT8, TILE_BF16):
        assert nominal_rate(kind, DEVICE) == nominal_rate(kind, narrow)
        assert nominal_rate(kind, DEVICE) > 4 * nominal_rate(DOT8, DEVICE)
    assert nominal_rate(FMA, DEVICE) == 2 * nominal_rate(FMA, narrow)


def test_without_the_unit_there_is_no_fraction() -> None:
    """No fraction is reported rather than one of another unit."""
    from handglass.compiler.lowering.task_arguments import Arguments

    kernel = Kernel("f", "cpu-tiles", 1, ("tile-bf16",), None)
    arguments = Arguments([], 1, ((64, 64),), (4,))
    assert Limits({READ: 1e9, FMA: 1e9}).fraction(kernel, arguments, 1.0) is None
    assert Limits({}).fraction(kernel, arguments, 1.0) is None
    known = Limits({READ: 1e9, TILE_BF16: 1e9}).fraction(kernel, arguments, 1.0)
    assert known == pytest.approx(64 * 64 * 4 / 1e9)


@pytest.mark.parametrize(("rates", "known"), [((READ, FMA), False), ((READ, TILE_BF16), True)])
def test_kernels_of_a_step_likewise(rates: tuple[str, ...], known: bool) -> None:
    phase = Phase("prefill", lambda: 1.0, observed=[1.0])
    phase.calls["f"] = Calls(seconds=[1.0], steps=[1.0], bytes=1e6, flops=4e8)
    kernels = {"f": Kernel("f", "cpu-tiles", 1, ("tile-bf16",), None)}
    (row,) = rows(phase, kernels, dict.fromkeys(rates, 1e9))
    assert row["limit_fraction"] == (pytest.approx(0.4) if known else None)


class OldSession:
    """A bundle with tile kernels that predates the tile probes."""

    on_gpu = False

    def function(self, name: str) -> Any:
        from handglass.errors import MismatchError

        if name not in BASE:
            raise MismatchError(name)
        return None


def test_an_older_bundle_says_why_it_has_no_limit() -> None:
    found = limits.Limits(OldSession())  # type: ignore[arg-type]
    assert found.missing() == "" and list(found.probes) == [READ, FMA, DOT4, DOT8]
    assert found.unmeasured(DOT4) == ""
    assert "no probe_tile_bf16" in found.unmeasured(TILE_BF16)


@pytest.mark.parametrize("old", [True, False])
def test_a_row_of_an_older_bundle_has_no_fraction_and_says_why(old: bool) -> None:
    session = OldSession()
    if not old:
        session.function = lambda name: None  # type: ignore[method-assign]
    benchmark = object.__new__(Benchmark)
    benchmark.limits, benchmark.no_limits = limits.Limits(session), ""  # type: ignore[arg-type]
    row = benchmark._row("pp64", "tok/s", lambda: 1.0, TILE_BF16, lambda: 5.0, 64, "a note")
    row.samples, row.limits = [1.0], [10.0]
    assert row.note.startswith("a note") and ("no probe_tile_bf16" in row.note) == old
    assert (row.limit, row.fraction()) == (("", None) if old else (TILE_BF16, 0.5))
