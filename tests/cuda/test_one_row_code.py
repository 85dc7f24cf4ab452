"""Products of one row as CUDA: what the machine code shows for each chip, and exact counts.

Decode is a stream over the weights, so what matters is that nothing but them takes time: whole
loads of 16 bytes, few instructions per byte, enough warps to wait for memory, and few sectors
beside the weights' own.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from cuda_kernels import Kernels, image, kernels_of, scheduled, target_of
from machine_code import LOCAL_MEMORY, Code, count, disassembled, nvdisasm
from occupancy import BYTES_PER_CLOCK, MULTIPROCESSORS, SLOTS, WARP, occupancy
from thinned import thinned
from tolerance import KERNEL
from vulkan_products import Product

from handglass.schedules.choices import Written
from handglass.targets import find_target
from handglass.targets.codegen.cuda.nvrtc import Nvrtc
from handglass.targets.codegen.cuda.packages import MAJORS

pytestmark = pytest.mark.compiler

N, K = 256, 1536
OCCUPANCY = 0.5
"""Least share of the warps that a multiprocessor holds."""
FLOATS = ("f16", "bf16", "f32")
RULES = {"w4": "cuda-one-row", "w4a8": "cuda-dot-row", "w8a8": "cuda-dot-row"}
RULES |= dict.fromkeys(FLOATS, "cuda-float-row")
PRODUCTS = {"w4": "HMMA", "w4a8": "IDP.4A", "w8a8": "IDP.4A"} | dict.fromkeys(FLOATS, "FFMA")
"""The instruction that multiplies."""
PER_BYTE = {"w4": 4.6, "w4a8": 2.8, "w8a8": 1.6, "f16": 2.7, "bf16": 2.7, "f32": 0.8}
"""Most instructions of a thread per byte of weights, the sums of the parts included."""
BESIDE = 1.15
"""Most sectors over those of the operands, and wavefronts of shared memory over the least."""
ISSUED = 0.6
"""Largest share of the issue slots, if the weights arrive at the full bandwidth."""

CASES = [
    (scheme, major, chip)
    for scheme in PER_BYTE
    for major in MAJORS
    for chip in MULTIPROCESSORS
    if (major, chip) != (12, 110)
]
"""CUDA 12 calls this chip 101."""


@cache
def built(scheme: str, choices: tuple[tuple[str, int], ...] = ()) -> tuple[Product, Kernels]:
    product = Product(scheme, N, K, dict(find_target("rtx-20").tvm))
    target = target_of("rtx-20")
    sch, rule = scheduled(product.function(1), target, Written(dict(choices)))
    assert rule == RULES[scheme]
    return product, kernels_of(sch.mod["main"], target)


def code_of(kernels: Kernels, architecture: str, major: int) -> Code:
    return disassembled(*image(kernels.source, architecture, major))


@pytest.mark.skipif(nvdisasm() is None, reason="nvdisasm is not installed: make test-cuda")
@pytest.mark.cuda
@pytest.mark.parametrize(("scheme", "nvrtc", "chip"), thinned(4, CASES), indirect=["nvrtc"])
def test_the_code_of_each_chip(scheme: str, nvrtc: Nvrtc, chip: int) -> None:
    _, kernels = built(scheme)
    (launch,) = kernels.launches
    threads = np.prod([int(n) for name, n in launch.extents.items() if name.startswith("thread")])
    code = code_of(kernels, f"sm_{chip}", nvrtc.major)
    wide, all_loads = count(code.mix, "LDG.E.128"), count(code.mix, "LDG")
    assert not count(code.mix, *LOCAL_MEMORY)
    assert count(code.mix, PRODUCTS[scheme]) > 0
    least = 0.6 if scheme not in FLOATS else (all_loads - 4) / all_loads
    assert wide >= least * all_loads, code.mix  # others: scales, a row, its last inputs
    held = occupancy(chip, int(threads), code.registers, kernels.static_shared)
    assert held >= OCCUPANCY, (code.registers, held)


@pytest.mark.cuda
@pytest.mark.parametrize("scheme", PER_BYTE)
def test_little_is_done_beside_the_weights(scheme: str) -> None:
    product, kernels = built(scheme)
    draw = np.random.default_rng(K)
    x, weight = (draw.standard_normal(shape, np.float32) for shape in ((1, K), (N, K)))
    parts = [np.ascontiguousarray(part) for part in product.storage.pack(weight).values()]
    inputs, y = product.inputs(x), np.full((1, N), np.nan, np.float32)
    (counts,) = kernels.run(*inputs, *parts, y)
    KERNEL.check(y, product.expected(x, weight))
    weights = sum(part.nbytes for part in parts)
    operands = weights + y.nbytes + sum(array.nbytes for array in inputs)
    per_byte = WARP * counts.instructions / weights
    assert per_byte <= PER_BYTE[scheme]
    assert 32 * counts.global_sectors <= BESIDE * operands
    assert counts.shared_wavefronts <= BESIDE * counts.shared_ideal
    for card, arriving in BYTES_PER_CLOCK.items():
        assert per_byte * arriving <= ISSUED * WARP * SLOTS, card


@pytest.mark.cuda
@pytest.mark.parametrize("scheme", ["w4a8", "w8a8"])
def test_eight_outputs_of_a_thread(scheme: str) -> None:
    """TVM's generator has no vectors of eight integers."""
    image(built(scheme, (("outputs", 8),))[1].source, "sm_80", 13)


def test_occupancy() -> None:
    assert occupancy(80, 128, 32, 0) == 1
    assert occupancy(80, 128, 255, 0) == 8 / 64  # registers
    assert occupancy(86, 128, 32, 90 << 10) == 4 / 48  # shared memory
    assert occupancy(75, 1024, 64, 0) == 1
