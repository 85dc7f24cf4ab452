"""Matmuls on tensor cores: results and counts on the emulator, and what the machine code shows."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from cuda_kernels import Kernels, image, kernels_of, scheduled, target_of
from emulator.launch import Counts
from machine_code import LOCAL_MEMORY, TENSOR, count, disassembled, nvdisasm
from occupancy import MULTIPROCESSORS
from thinned import thinned
from vulkan_products import Product

from handglass.schedules.choices import DEFAULTS, Choices, Written
from handglass.schedules.cuda import tensor_core
from handglass.schedules.gpu.limits import gpu_limits
from handglass.targets import find_target
from handglass.targets.codegen.cuda.nvrtc import Nvrtc
from handglass.targets.codegen.cuda.packages import MAJORS

pytestmark = pytest.mark.compiler

ROWS = (2, 7, 130)
SCHEMES = ("f16", "w8a8", "w4a8")
INPUTS = {"f16": 16, "w8a8": 32, "w4a8": 16}
"""Inputs of one product on tensor cores."""
ARCHITECTURES = tuple(f"sm_{chip}" for chip in MULTIPROCESSORS if chip >= 80)
SMALL: dict[str, int] = {"rows": 64, "columns": 64}
"""A tile whose code compiles fast."""
TOLERANCE = 2e-6
SHARE = {"f16": 0.45, "w8a8": 0.45, "w4a8": 0.37}
"""Least share of products in the loop. With int4, every workgroup dequantizes its weights."""
CONFLICTS, REGISTERS = 1.15, 255

needs_emulator = pytest.mark.cuda


def product(scheme: str, n: int, k: int, preset: str = "a100") -> Product:
    return Product(scheme, n, k, dict(find_target(preset).tvm))


def built(product: Product, choices: Choices = DEFAULTS, bias: bool = True) -> Kernels:
    target = target_of("a100")
    sch, rule = scheduled(product.function(bias=bias), target, choices)
    assert rule == tensor_core.RULE.name
    return kernels_of(sch.mod["main"], target)


def check(product: Product, kernels: Kernels, m: int, nan: bool = False) -> Counts:
    """Compare m rows with numpy; with `nan`, one of them is not a number."""
    draw = np.random.default_rng((m, product.n, product.k))
    x, weight, residual = (
        draw.standard_normal(shape, np.float32)
        for shape in ((m, product.k), (product.n, product.k), (m, product.n))
    )
    bias, y = draw.standard_normal(product.n, np.float32), np.full_like(residual, np.nan)
    if nan:
        x[1, 3] = np.nan
    parts = map(np.ascontiguousarray, product.storage.pack(weight).values())
    (counts,) = kernels.run(*product.inputs(x), *parts, bias, residual, y, m=m)
    truth = np.tanh(product.expected(np.nan_to_num(x), weight) + bias) + residual
    good = [i for i in range(m) if not (nan and i == 1)]
    assert not nan or np.isnan(y[1]).all()
    assert np.abs(y[good] - truth[good]).max() <= TOLERANCE * np.abs(truth).max()
    return counts


@needs_emulator
@pytest.mark.parametrize(
    ("scheme", "n", "k"), [("f16", 37, 50), ("w8a8", 200, 333), ("w4a8", 70, 333)]
)
def test_any_number_of_rows(scheme: str, n: int, k: int) -> None:
    of = product(scheme, n, k)
    kernels = built(of, Written(SMALL))
    for m in ROWS:
        check(of, kernels, m, nan=m > 2)


@needs_emulator
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_default_tile_has_few_bank_conflicts_and_whole_sectors(scheme: str) -> None:
    of = product(scheme, 128, 512)
    counts = check(of, built(of), 128)
    assert counts.shared_wavefronts <= CONFLICTS * counts.shared_ideal
    assert counts.global_sectors * 32 <= CONFLICTS * counts.global_bytes
    assert counts.mma == 128 * 128 * 512 // (16 * 8 * INPUTS[scheme]), "no product twice"


@needs_emulator
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_candidate_is_right(scheme: str) -> None:
    draw, of = random.Random(scheme), product(scheme, 144, 256)
    choices = {name: draw.choice(values) for name, values in tensor_core.OFFERS.items()}
    check(of, built(of, Written(choices)), 70)


def code_of(kernels: Kernels, architecture: str, major: int) -> Any:
    return disassembled(*image(kernels.source, architecture, major))


@pytest.mark.cuda
@pytest.mark.skipif(nvdisasm() is None, reason="nvdisasm is not installed: make test-cuda")
@pytest.mark.parametrize(
    ("nvrtc", "scheme", "architecture"),
    thinned(3, MAJORS, SCHEMES, ARCHITECTURES),
    indirect=["nvrtc"],
)
def test_the_machine_code(nvrtc: Nvrtc, scheme: str, architecture: str) -> None:
    """Of a layer of the vision tower: nothing in local memory, and the loop mostly multiplies."""
    if (nvrtc.major, architecture) == (12, "sm_110"):
        pytest.skip("CUDA 12 calls this chip sm_101")
    code = code_of(large_product(scheme), architecture, nvrtc.major)
    loop = Counter({name: n for name, n in code.hot_loop.items() if name != "NOP"})  # padding
    assert not count(code.mix, *LOCAL_MEMORY)
    assert count(loop, *TENSOR) >= SHARE[scheme] * loop.total(), loop
    assert count(loop, "LDGSTS") == count(loop, "LDGSTS.E.BYPASS.128") > 0
    assert not count(loop, "LDG.", "STG")
    assert code.registers <= REGISTERS


@cache
def large_product(scheme: str) -> Kernels:
    return built(product(scheme, 1152, 1152))


@pytest.mark.skipif(nvdisasm() is None, reason="nvdisasm is not installed: make test-cuda")
def test_a_small_tile_multiplies_on_tensor_cores(any_nvrtc: Nvrtc) -> None:
    code = code_of(built(product("w8a8", 64, 256), Written(SMALL)), "sm_87", any_nvrtc.major)
    assert count(code.mix, "IMMA.16832") and count(code.mix, "LDSM", "LDGSTS")
    assert not count(code.mix, *LOCAL_MEMORY)


@pytest.mark.cuda
@pytest.mark.parametrize("preset", ["a100", "rtx-40", "rtx-50", "jetson-orin", "jetson-thor"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_tiles_fit_the_shared_memory_of_each_chip(scheme: str, preset: str) -> None:
    target, of = target_of(preset), product(scheme, 1152, 4304, preset)
    largest = {name: max(values) for name, values in tensor_core.OFFERS.items()}
    for choices in (DEFAULTS, Written(largest)):
        kernels = kernels_of(scheduled(of.function(), target, choices)[0].mod["main"], target)
        (launch,) = kernels.launches
        dynamic = int(launch.extents["tirx.use_dyn_shared_memory"])
        assert dynamic + kernels.static_shared <= gpu_limits(target).optin


@pytest.mark.parametrize(("scheme", "m"), [("f32", None), ("bf16", None), ("f16", 1), ("w8a8", 1)])
def test_one_row_and_wide_weights_are_not_for_tensor_cores(scheme: str, m: int | None) -> None:
    _, rule = scheduled(product(scheme, 32, 64).function(m), target_of("a100"))
    assert rule != tensor_core.RULE.name


def test_older_chips_have_no_such_products() -> None:
    _, rule = scheduled(product("f16", 32, 64, "rtx-20").function(), target_of("rtx-20"))
    assert rule == "vulkan-matmul"
