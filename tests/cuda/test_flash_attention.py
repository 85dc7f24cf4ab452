"""Attention on tensor cores: results and counts on the emulator."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from arm_kernels import Kernel
from attention_reference import CONTEXT, attend, cache_of, normal, rotated
from attention_spaces import over_cache, over_picture
from cuda_kernels import Kernels, image, kernels_of, scheduled, target_of
from emulator.launch import Counts, Module
from tolerance import HALF_ATTENTION, KERNEL

from handglass.compiler.ops import rotary
from handglass.schedules.choices import Written
from handglass.schedules.cuda import flash_attention
from handglass.schedules.gpu import attention

pytestmark = [pytest.mark.compiler, pytest.mark.cuda]

CONFLICTS = 1.15
"""Most sectors over those of the data, and wavefronts of shared memory over the least."""
Chosen = tuple[tuple[str, int], ...]
UNUSUAL: Chosen = (
    *(("down", 1), ("across", 2), ("bands", 2), ("chunk", 64), ("step", 16), ("stages", 3)),
    *(("held", 0), ("lazy", 1), ("order", 1)),
)
SHARED: Chosen = (
    *(("down", 2), ("across", 4), ("chunk", 128), ("step", 32), ("stages", 1), ("order", 2)),
)
PICTURES: Mapping[str, tuple[dict[str, Any], Chosen]] = {
    "vision": ({"queries": None, "s": 77, "heads": 2, "kv": 2, "d": 72}, ()),
    "vision, unusual": ({"queries": None, "s": 150}, UNUSUAL),
    "resampler": ({"queries": 10, "s": 77, "d": 64}, ()),
    "resampler, split": ({"queries": 10, "s": 150, "d": 64}, (("splits", 2), ("chunk", 32))),
}
CACHES: Mapping[str, tuple[dict[str, Any], Chosen]] = {
    "float16": ({"dtype": "float16", "s": 39, "pos": 45}, ()),
    "float16, shared": ({"dtype": "float16", "s": 39, "pos": 150}, SHARED),
    "float16, unusual": ({"dtype": "float16", "s": 70, "pos": 0, "heads": 6, "d": 24}, UNUSUAL),
    "float32": ({"dtype": "float32", "s": 7, "pos": 17, "heads": 6}, ()),
    "int8": ({"dtype": "int8", "s": 20, "pos": 17, "heads": 6, "d": 24}, ()),
}
DECODES: Mapping[str, tuple[dict[str, Any], Chosen]] = {
    "seven heads each": ({"pos": 350}, ()),
    "one head each": ({"pos": 17, "heads": 2, "kv": 2, "d": 72}, (("splits", 1), ("held", 0))),
    "sixteen heads, unusual": (
        {"pos": 200, "heads": 16, "kv": 1, "d": 24},
        (("splits", 2), *UNUSUAL),
    ),
    "sixteen heads of eight columns in two warps": (
        {"pos": 40, "heads": 16, "kv": 1, "d": 8},
        (("splits", 4), ("down", 2), ("across", 2), ("chunk", 32), ("stages", 1)),
    ),
}
"""One query over a float16 cache."""


def made(sizes: Mapping[str, Any], rounded: bool = True) -> Kernel:
    make = over_cache if "dtype" in sizes else over_picture
    with target_of("cuda"):
        return make(**sizes, rounded=rounded)


def built(kernel: Kernel, chosen: Chosen = (), preset: str = "cuda") -> Kernels:
    sch, rule = scheduled(kernel.func, target_of(preset), Written(dict(chosen)))
    assert rule == flash_attention.RULE.name
    return kernels_of(sch.mod["main"], target_of(preset))


def run(kernels: Kernels, kernel: Kernel, **sizes: int) -> tuple[np.ndarray, list[Counts]]:
    arrays = [given for given in kernel.inputs if isinstance(given, np.ndarray)]
    y = np.full(kernel.outputs[0].shape, np.nan, np.float32)
    return y, kernels.run(*arrays, y, **sizes)


@pytest.mark.parametrize("name", PICTURES)
def test_all_see_all(name: str) -> None:
    sizes, chosen = PICTURES[name]
    kernel = made(sizes)
    y, counts = run(built(kernel, chosen), kernel, n=sizes["s"])
    HALF_ATTENTION.check(y, kernel.outputs[0])
    for count in counts:
        assert count.shared_wavefronts <= CONFLICTS * count.shared_ideal, count


@pytest.mark.parametrize("name", CACHES)
def test_over_a_cache(name: str) -> None:
    """What lies beyond the last position of the cache is not a number."""
    sizes, chosen = CACHES[name]
    kernel = made(sizes)
    y, counts = run(built(kernel, chosen), kernel, s=sizes["s"], pos=sizes["pos"])
    HALF_ATTENTION.check(y, kernel.outputs[0])
    assert len(counts) == (1 if sizes["dtype"] == "float16" else 3), "rounds what is not float16"
    assert counts[-1].shared_wavefronts <= CONFLICTS * counts[-1].shared_ideal


@pytest.mark.parametrize("name", DECODES)
def test_one_query_is_not_rounded(name: str) -> None:
    sizes, chosen = DECODES[name]
    kernel = made({"dtype": "float16", "s": 1, **sizes}, rounded=False)
    y, counts = run(built(kernel, chosen), kernel, pos=sizes["pos"])
    KERNEL.check(y, kernel.outputs[0])
    assert len(counts) == (1 if ("splits", 1) in chosen else 2), "parts are merged"
    assert counts[0].mma > 0


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_one_query_over_other_caches_has_the_kernel_of_all_gpus(dtype: str) -> None:
    kernel = made({"dtype": dtype, "s": 1, "pos": 17}, rounded=False)
    assert scheduled(kernel.func, target_of("cuda"))[1] == attention.RULE.name


def test_the_kernel_of_all_gpus_does_more() -> None:
    """With float32 weights it computes the same attention, in float32."""
    sizes, _ = PICTURES["vision"]
    exact = made(sizes, rounded=False)
    sch, rule = scheduled(exact.func, target_of("cuda"))
    assert rule == attention.RULE.name
    y, counts = run(kernels_of(sch.mod["main"], target_of("cuda")), exact, n=sizes["s"])
    KERNEL.check(y, exact.outputs[0])
    _, fewer = run(built(made(sizes)), exact, n=sizes["s"])
    assert sum(c.instructions for c in counts) > 4 * sum(c.instructions for c in fewer)


def test_buffers_with_one_name_are_refused() -> None:
    """Three arguments of attention once had one name, and its results were not numbers."""
    with pytest.raises(ValueError, match="several buffers are called q"):
        Kernels("", [], ["q", "k", "q"])


@cache
def causal() -> Kernels:
    return built(made({"dtype": "float16", "s": 40, "pos": 0, "heads": 4, "d": 16}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_position_that_is_no_number_spoils_only_those_who_see_it(bad: float) -> None:
    s, at, d = 40, 21, 16
    q, k, v = normal(s, 4, d), normal(s, 2, d), normal(s, 2, d, seed=8)
    table = rotary.table(CONTEXT, d, 10000.0)
    truth = attend(rotated(q, table[:s]), k, v, 0)
    v[at, :, 3] = bad
    qkv = np.concatenate([q.reshape(s, -1), np.zeros((s, 64), np.float32)], axis=1)
    y = np.full_like(truth, np.nan, dtype=np.float32)
    causal().run(qkv, table, *cache_of(k, v, np.nan, "float16"), y, s=s, pos=0)
    spoilt = y.reshape(s, 4, d)[at:, :, 3]
    assert not np.isfinite(spoilt).any()
    y.reshape(s, 4, d)[at:, :, 3] = truth.reshape(s, 4, d)[at:, :, 3]
    HALF_ATTENTION.check(y, truth)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 7e4])
def test_a_query_that_is_no_number_spoils_only_itself(bad: float) -> None:
    """A number that float16 does not have becomes its largest."""
    kernel = made(PICTURES["resampler"][0])
    q, k, v = (given.copy() for given in kernel.inputs if isinstance(given, np.ndarray))
    q[3, 1, 5] = bad
    y = np.full(kernel.outputs[0].shape, np.nan, np.float32)
    built(kernel).run(q, k, v, y, n=len(k))
    head = slice(64, 128)
    assert np.isfinite(y[3, head]).all() == np.isfinite(bad)
    y[3, head] = kernel.outputs[0][3, head]
    HALF_ATTENTION.check(y, kernel.outputs[0])


def test_before_compute_capability_8() -> None:
    """Copies through registers, and products of eight inputs."""
    sizes, _ = PICTURES["vision"]
    kernel = made(sizes)
    of = built(kernel, preset="rtx-20")
    older = Module(image(of.source, "compute_75", 13)[0].decode().rstrip("\0"))
    object.__setattr__(of, "emulated", older)
    y, counts = run(of, kernel, n=sizes["s"])
    HALF_ATTENTION.check(y, kernel.outputs[0])
    assert counts[-1].copies == 0 < counts[-1].mma
