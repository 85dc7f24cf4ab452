"""Attention on tensor cores: what the machine code of each chip shows, and what it asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from math import prod

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import attention_reference
import attention_spaces
from arm_kernels import Kernel
from attention_spaces import over_cache, over_picture
from cuda_kernels import DYNAMIC, Kernels, Launch, image, kernels_of, scheduled, target_of
from machine_code import LOCAL_MEMORY, TENSOR, count, disassembled, nvdisasm
from occupancy import MULTIPROCESSORS, WARP, occupancy
from thinned import thinned
from tolerance import KERNEL

from handglass.schedules.choices import Written
from handglass.schedules.cuda import flash_attention
from handglass.targets.codegen.cuda.cells import READ
from handglass.targets.codegen.cuda.nvrtc import Nvrtc
from handglass.targets.codegen.cuda.packages import MAJORS
from handglass.targets.codegen.cuda.spills import resources
from handglass.targets.codegen.repeated_kernels import REPEATED

pytestmark = [
    pytest.mark.compiler,
    pytest.mark.cuda,
    pytest.mark.skipif(nvdisasm() is None, reason="nvdisasm is not installed: make test-cuda"),
]

PRESETS = {75: "rtx-20", 80: "a100", 86: "rtx-30", 87: "jetson-orin", 90: "h100", 120: "rtx-50"}
"""A preset for each chip whose code is read; 8.9 has the limits of 8.6, and 11.0 those of 9.0."""
WARPS = 8
"""Least warps on a multiprocessor: two for each of its schedulers."""
WARPS_OF_WIDE = 4
"""The same with heads of 256, whose queries, keys and values fill the shared memory of one tile."""
IN_FLIGHT = 16 << 10
"""Least bytes of the cache on their way to a multiprocessor while one query is decoded, or being
multiplied: what the fastest gets in 600 ns."""
POSITIONS = 2048
BESIDE = 1.15
"""Most sectors over those of the cache, and wavefronts of shared memory over the least."""
PER_BYTE = {"float16": 3.0, "int8": 6.0, "float32": 3.0}
"""Most instructions of a thread per byte of the cache."""
CASES: dict[str, Callable[[], Kernel]] = {
    "vision": partial(over_picture, None, 7, 2, 2, 72, rounded=True),
    "prefill": partial(over_cache, "float16", 7, 0, 14, 2, 64, rounded=True),
    "prefill_wide": partial(over_cache, "float16", 7, 0, 8, 2, 256, rounded=True),
    "decode": partial(over_cache, "float16", 1, 0, 36, 36, 64),
    "decode_wide": partial(over_cache, "float16", 1, 0, 8, 2, 256),
    "decode_int8": partial(over_cache, "int8", 1, 0, 36, 36, 64),
    "decode_int8_grouped": partial(over_cache, "int8", 1, 0, 14, 2, 64),
    "decode_int8_wide": partial(over_cache, "int8", 1, 0, 8, 2, 256),
    "decode_f32": partial(over_cache, "float32", 1, 0, 36, 36, 64),
    "decode_f32_grouped": partial(over_cache, "float32", 1, 0, 14, 2, 64),
    "decode_f32_wide": partial(over_cache, "float32", 1, 0, 8, 2, 256),
}
PRODUCTS = {"vision": 76, "prefill": 64, "prefill_wide": 128, "decode": 16, "decode_wide": 64}
PRODUCTS |= {"decode_int8": 32, "decode_int8_grouped": 32, "decode_int8_wide": 64}
PRODUCTS |= {"decode_f32": 64, "decode_f32_grouped": 448, "decode_f32_wide": 256}
"""Products of a step of 64 positions (32 of 256 columns), or 16 of decoding, with columns of 72, 64
or 256; chips before 8.0 take two instructions for most. Codes have 32 positions if columns are 64.
Over float32 `fma` of one row, seven or two, of as many positions."""
SHARE = {"vision": 0.12, "prefill": 0.07, "prefill_wide": 0.07}
SHARE |= {"decode": 0.05, "decode_wide": 0.08}
SHARE |= {"decode_int8": 0.05, "decode_int8_grouped": 0.05, "decode_int8_wide": 0.06}
SHARE |= {"decode_f32": 0.15, "decode_f32_grouped": 0.45, "decode_f32_wide": 0.25}
"""Least share of the products in the loop. It also has the softmax, what hides positions and, of a
causal prompt, a second product for values that are not finite, which does not run otherwise; and
the copies of the last chunk, which is not whole."""


@cache
def built(name: str, preset: str) -> Kernels:
    with target_of(preset):
        kernel = CASES[name]()
    sch, rule = scheduled(kernel.func, target_of(preset))
    assert rule == flash_attention.RULE.name
    func = sch.mod["main"]
    if name.startswith("decode"):  # as in `decode`: the position may be in a cell
        func = func.with_attr(REPEATED, True)
    kernels = kernels_of(func, target_of(preset))
    assert (f"{READ}(cells" in kernels.source) is name.startswith("decode")
    return kernels


@pytest.mark.parametrize(
    ("nvrtc", "name", "chip"), thinned(5, MAJORS, PRODUCTS, PRESETS), indirect=["nvrtc"]
)
def test_the_code_of_each_chip(nvrtc: Nvrtc, name: str, chip: int) -> None:
    kernels = built(name, PRESETS[chip])
    cubin, log = image(kernels.source, f"sm_{chip}", nvrtc.major)
    launch = kernels.launches[0 if name.startswith("decode") else -1]  # before the merge
    names = ("FFMA",) if "f32" in name else TENSOR
    used, loop = resources(log)[launch.kernel], disassembled(cubin, log).loop_of(*names)
    assert count(loop, *LOCAL_MEMORY) == 0, loop
    assert used.memory == 0 or (name, chip) == ("prefill_wide", 120), used
    products = count(loop, *names)
    assert products >= PRODUCTS[name] and products >= SHARE[name] * loop.total(), loop
    copies = "LDGSTS.E.BYPASS.128" if chip >= 80 else "LDG.E.128"
    assert count(loop, copies) == count(loop, "LDGSTS", "LDG.") > 0, loop
    share = occupancy(chip, threads_of(launch), used.registers, memory_of(launch))
    warps = share * MULTIPROCESSORS[chip].threads / WARP
    if name.startswith("decode"):
        workgroups = warps * WARP // threads_of(launch)
        assert workgroups * memory_of(launch) >= IN_FLIGHT, used
    else:
        assert warps >= (WARPS_OF_WIDE if name == "prefill_wide" else WARPS), used


@pytest.mark.parametrize("dtype", PER_BYTE)
@pytest.mark.parametrize(("heads", "kv"), [(4, 4), (14, 2)])
def test_decoding_reads_little_beside_the_cache(
    heads: int, kv: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two parts of 1024 positions, as of a longer context on a large GPU."""
    for module in (attention_reference, attention_spaces):
        monkeypatch.setattr(module, "CONTEXT", POSITIONS)
    with target_of("a100"):
        kernel = over_cache(dtype, 1, POSITIONS - 1, heads, kv, 64)
    sch, rule = scheduled(kernel.func, target_of("a100"), Written({"splits": 2}))
    assert rule == flash_attention.RULE.name
    kernels = kernels_of(sch.mod["main"].with_attr(REPEATED, True), target_of("a100"))
    arrays = [given for given in kernel.inputs if isinstance(given, np.ndarray)]
    y = np.full(kernel.outputs[0].shape, np.nan, np.float32)
    counts = kernels.run(*arrays, y, pos=POSITIONS - 1)
    KERNEL.check(y, kernel.outputs[0])
    cache = sum(array.nbytes for array in arrays[2:])
    assert 32 * sum(c.global_sectors for c in counts) <= BESIDE * cache
    assert 32 * sum(c.instructions for c in counts) <= PER_BYTE[dtype] * cache
    assert counts[0].shared_wavefronts <= BESIDE * counts[0].shared_ideal


def threads_of(launch: Launch) -> int:
    return prod(int(n) for name, n in launch.extents.items() if name.startswith("threadIdx"))


def memory_of(launch: Launch) -> int:
    return int(launch.extents[DYNAMIC])
