"""RMSNorm and the quantization of its result in one kernel: results, sectors, machine code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm_ffi
from cuda_kernels import Kernels, image, kernels_of, scheduled, target_of
from machine_code import LOCAL_MEMORY, count, disassembled, nvdisasm
from occupancy import MULTIPROCESSORS
from tolerance import KERNEL
from tvm import te, tirx
from vulkan_products import placeholder
from vulkan_spaces import Offered

from handglass.compiler.ops import norm
from handglass.compiler.ops.quantize_rows import quantize_rows
from handglass.schedules.choices import Written
from handglass.schedules.cuda import norm_rows
from handglass.schedules.isa.integer_isa import GROUP, Codes
from handglass.targets.codegen.cuda.nvrtc import Nvrtc

pytestmark = pytest.mark.compiler

EPS = 1e-5
ROWS, K = 3, 1536
BESIDE = 1.15
"""Most sectors over those of the arguments."""


Chosen = tuple[tuple[str, int], ...]
WAYS: Sequence[Chosen] = (
    (("kept", norm_rows.NOTHING), ("unroll", 0)),
    (("kept", norm_rows.ROW), ("width", 2)),
    (("place", norm_rows.LAST), ("width", 1)),
    (("place", norm_rows.LAST), ("unroll", 0)),
)


def function(k: int, bits: int = 4, layer: bool = False) -> tirx.PrimFunc:
    m = tirx.Var("m", "int64")
    x, w, b = placeholder((m, k), "float32"), *(placeholder((k,), "float32", n) for n in "wb")
    depth = -(-k // GROUP) * GROUP
    with target_of("cuda"):
        result = norm.layer_norm(x, w, b, EPS) if layer else norm.rms_norm(x, w, EPS)
        codes = quantize_rows(result, Codes(bits, 0, activation="int32"), depth)
    return te.create_prim_func([x, w, *([b] if layer else []), *codes])


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


@cache
def built(k: int, members: int = 8, chosen: Chosen = ()) -> Kernels:
    choices, target = Written({"members": members, **dict(chosen)}), target_of("cuda")
    sch, rule = scheduled(function(k), target, choices)
    assert rule == norm_rows.RULE.name
    return kernels_of(sch.mod["main"], target)


def run(kernels: Kernels, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Codes (m, groups, 32), scales (m, groups) and requested sectors."""
    codes = np.zeros((len(x), x.shape[1] // 4), np.int32)
    scale = np.full((len(x), x.shape[1] // GROUP), np.nan, np.float32)
    (counts,) = kernels.run(x, w, codes, scale, m=len(x))
    return codes.view(np.int8).reshape(*scale.shape, GROUP), scale, counts.global_sectors


@pytest.mark.cuda
@pytest.mark.parametrize(("k", "members"), [(K, 8), (256, 4)])
def test_codes_and_scales(k: int, members: int) -> None:
    x, w = random(ROWS, k), random(k)
    x[1, 40:64] *= 1e-3
    x[2, 0] = np.nan
    codes, scale, _ = run(built(k, members), x, w)
    wide = x.astype(np.float64)
    truth = wide / np.sqrt(np.square(wide).mean(-1, keepdims=True) + EPS) * w
    truth = truth.reshape(codes.shape)
    assert np.isnan(scale[2]).all()
    KERNEL.check(scale[:2], np.abs(truth[:2]).max(-1) / 127)
    error = np.abs(codes * scale[..., None].astype(np.float64) - truth)[:2]
    assert (error <= 0.5001 * scale[:2, :, None]).all()


@pytest.mark.cuda
@pytest.mark.parametrize("chosen", WAYS)
def test_ways_to_keep_the_row(chosen: Chosen) -> None:
    x, w = random(ROWS, 1152), random(1152)
    usual, found = run(built(1152), x, w), run(built(1152, 8, chosen), x, w)
    assert (usual[0] == found[0]).all()
    KERNEL.check(found[1], usual[1])


@pytest.mark.cuda
def test_a_row_has_many_ways() -> None:
    """Also of 36 groups, which only eight threads each make whole warps."""
    offered, target = Offered(), target_of("cuda")
    assert scheduled(function(1152), target, offered)[1] == norm_rows.RULE.name
    ways = set()
    for values in product(*offered.options.values()):
        choices = Written(dict(zip(offered.options, values, strict=True)))
        mod = scheduled(function(1152), target, choices)[0].mod
        ways.add(tvm_ffi.structural_hash(mod["main"], map_free_vars=True))
    assert len(ways) >= 20


@pytest.mark.cuda
def test_a_row_and_the_weight_are_read_once() -> None:
    x, w = np.ones((1, K), np.float32), np.ones(K, np.float32)
    codes, scale, sectors = run(built(K), x, w)
    arguments = sum(array.nbytes for array in (x, w, codes, scale))
    assert 32 * sectors <= BESIDE * arguments


@pytest.mark.cuda
def test_the_last_row_alone() -> None:
    """Before the head, only the last row is needed."""
    k = 256
    x, w = placeholder((ROWS, k), "float32"), placeholder((k,), "float32", "w")
    last = te.compute((1, k), lambda i, j: x[ROWS - 1, j], name="last")
    with target_of("cuda"):
        codes = quantize_rows(norm.rms_norm(last, w, EPS), Codes(4, 0, activation="int32"), k)
    sch, rule = scheduled(te.create_prim_func([x, w, *codes]), target_of("cuda"))
    assert rule == norm_rows.RULE.name
    kernels = kernels_of(sch.mod["main"], target_of("cuda"))
    rows, ones = random(ROWS, k), np.ones(k, np.float32)
    found = [np.zeros((1, k // 4), np.int32), np.full((1, k // GROUP), np.nan, np.float32)]
    kernels.run(rows, ones, *found)
    _, scale, _ = run(built(k), rows[-1:], ones)
    KERNEL.check(found[1], scale)


@pytest.mark.skipif(nvdisasm() is None, reason="nvdisasm is not installed: make test-cuda")
@pytest.mark.cuda
def test_the_code_of_each_chip(nvrtc: Nvrtc) -> None:
    for chip in nvrtc.architectures.intersection(MULTIPROCESSORS):
        code = disassembled(*image(built(K).source, f"sm_{chip}", nvrtc.major))
        assert count(code.mix, "LDG") == count(code.mix, "LDG.E.128") == 2, chip
        assert not count(code.mix, *LOCAL_MEMORY), chip
        assert count(code.mix, "BAR.SYNC") == 2, chip


@pytest.mark.parametrize(
    ("k", "bits", "layer"), [(K, 8, False), (K, 4, True), (90, 4, False), (96, 4, False)]
)
def test_other_rows_have_the_kernel_of_all_gpus(k: int, bits: int, layer: bool) -> None:
    """One scale per row, another norm, a part of a group, a part of a warp."""
    assert scheduled(function(k, bits, layer), target_of("cuda"))[1] == "vulkan-rows"


def test_long_rows_have_fewer_threads_per_group() -> None:
    target = target_of("cuda")
    sch, rule = scheduled(function(8192), target)
    (launch,) = kernels_of(sch.mod["main"], target).launches
    assert rule == norm_rows.RULE.name
    assert [int(launch.extents[f"threadIdx.{axis}"]) for axis in "xy"] == [4, 256]
