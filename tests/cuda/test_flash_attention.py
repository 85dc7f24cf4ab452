"""Attention on tensor cores: results and counts on the emulator."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from arm_kernels import Kernel
from attention_reference import CONTEXT, as_kept, attend, cache_of, normal, rotated
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
OF_CODES: Chosen = (("across", 1), ("bands", 2), ("chunk", 32), ("step", 32), ("stages", 3))
OF_FLOATS: Chosen = (("across", 1), ("chunk", 64), ("step", 16), ("stages", 1), ("lazy", 0))
DECODES: Mapping[str, tuple[dict[str, Any], Chosen]] = {
    "seven heads each": ({"dtype": "float16", "pos": 350}, ()),
    "one head each": (
        {"dtype": "float16", "pos": 17, "heads": 2, "kv": 2, "d": 72},
        (("splits", 1), ("held", 0)),
    ),
    "sixteen heads, unusual": (
        {"dtype": "float16", "pos": 200, "heads": 16, "kv": 1, "d": 24},
        (("splits", 2), *UNUSUAL),
    ),
    "sixteen heads of eight columns in two warps": (
        {"dtype": "float16", "pos": 40, "heads": 16, "kv": 1, "d": 8},
        (("splits", 4), ("down", 2), ("across", 2), ("chunk", 32), ("stages", 1)),
    ),
    "int8, seven heads each": ({"dtype": "int8", "pos": 350, "d": 64}, ()),
    "int8, the seed": ({"dtype": "int8", "pos": 18, "heads": 36, "kv": 36, "d": 64}, ()),
    "int8, one head each": (
        {"dtype": "int8", "pos": 150, "heads": 2, "kv": 2, "d": 72},
        (("splits", 1), ("held", 0), ("lazy", 1)),
    ),
    "int8, sixteen heads, unusual": (
        {"dtype": "int8", "pos": 200, "heads": 16, "kv": 1, "d": 24},
        (("splits", 2), *OF_CODES),
    ),
    "int8, two warps by rows": (
        {"dtype": "int8", "pos": 0, "heads": 12, "kv": 1, "d": 80},
        (("splits", 3), ("down", 2), ("across", 2), ("step", 16)),
    ),
    "int8, eight columns": ({"dtype": "int8", "pos": 40, "heads": 5, "kv": 1, "d": 8}, ()),
    "float32, seven heads each": ({"dtype": "float32", "pos": 350, "d": 64}, ()),
    "float32, the seed": ({"dtype": "float32", "pos": 18, "heads": 36, "kv": 36, "d": 64}, ()),
    "float32, one head each": (
        {"dtype": "float32", "pos": 150, "heads": 2, "kv": 2, "d": 72},
        (("splits", 1), ("stages", 3)),
    ),
    "float32, sixteen heads, unusual": (
        {"dtype": "float32", "pos": 200, "heads": 16, "kv": 1, "d": 24},
        (("splits", 2), ("bands", 2), *OF_FLOATS),
    ),
    "float32, two warps by rows": (
        {"dtype": "float32", "pos": 0, "heads": 9, "kv": 1, "d": 80},
        (("splits", 3), ("down", 2), ("across", 2)),
    ),
    "float32, eight columns": ({"dtype": "float32", "pos": 40, "heads": 5, "kv": 1, "d": 8}, ()),
    "float32, wide heads": (
        {"dtype": "float32", "pos": 77, "heads": 4, "kv": 2, "d": 192},
        (("splits", 2), *OF_FLOATS),
    ),
}
"""One query over a cache."""


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
    kernel = made({"s": 1, **sizes}, rounded=False)
    y, counts = run(built(kernel, chosen), kernel, pos=sizes["pos"])
    KERNEL.check(y, kernel.outputs[0])
    assert len(counts) == (1 if ("splits", 1) in chosen else 2), "parts are merged"
    assert (counts[0].mma > 0) is (sizes["dtype"] != "float32")


@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1e8])
def test_scales_beyond_float16(factor: float) -> None:
    """Those of values multiply weights before these are rounded; they grow, or become smaller."""
    n, d = 90, 64
    q, k, v = normal(1, 7, d), normal(n, 1, d), normal(n, 1, d, seed=8)
    grown = v * np.float32(factor) ** np.linspace(0, 1, n, dtype=np.float32)[:, None, None]
    for values in (grown, grown[::-1].copy(), np.float32(factor) * v):
        y, truth = decoded("int8", q, k, values)
        KERNEL.check(y, truth)


def test_float32_is_not_rounded_to_float16() -> None:
    """Queries and keys beyond its range in both directions, and values."""
    q, k, v = normal(1, 14, 64) * 1e-6, normal(90, 2, 64) * 1e6, normal(90, 2, 64, seed=8) * 1e30
    KERNEL.check(*decoded("float32", q, k, v))


def test_a_peak_far_below_the_largest_score() -> None:
    """Maxima are raised when a score exceeds them by far, and by little not."""
    q, k, v = normal(1, 2, 64), normal(400, 2, 64), normal(400, 2, 64, seed=8)
    k *= np.linspace(0.01, 4, 400, dtype=np.float32)[:, None, None]
    for dtype in ("float32", "int8"):
        KERNEL.check(*decoded(dtype, q, k, v, splits=2, lazy=1))


def decoded(
    dtype: str, q: np.ndarray, k: np.ndarray, v: np.ndarray, **chosen: int
) -> tuple[np.ndarray, np.ndarray]:
    """Attention of one query to all keys of a cache, and the same in numpy."""
    (_, heads, d), (n, kv, _) = q.shape, k.shape
    kernel = made({"dtype": dtype, "s": 1, "pos": n - 1, "heads": heads, "kv": kv, "d": d}, False)
    table = rotary.table(CONTEXT, d, 10000.0)
    qkv = np.concatenate([q.reshape(1, -1), np.zeros((1, 2 * kv * d), np.float32)], axis=1)
    truth = attend(rotated(q, table[n - 1 : n]), as_kept(k, dtype), as_kept(v, dtype), n - 1)
    y = np.full_like(truth, np.nan, dtype=np.float32)
    of = built(kernel, tuple(chosen.items()))
    of.run(qkv, table, *cache_of(k, v, np.nan, dtype), y, pos=n - 1)
    return y, truth


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


OLDER: Mapping[str, tuple[dict[str, Any], dict[str, int]]] = {
    "vision": (PICTURES["vision"][0], {"n": 77}),
    "float16": ({"dtype": "float16", "s": 1, "pos": 77, "d": 64}, {"pos": 77}),
    "int8": ({"dtype": "int8", "s": 1, "pos": 77, "d": 72}, {"pos": 77}),
    "float32": ({"dtype": "float32", "s": 1, "pos": 77, "d": 64}, {"pos": 77}),
}


@pytest.mark.parametrize("name", OLDER)
def test_before_compute_capability_8(name: str) -> None:
    """Copies through registers, and products of eight inputs."""
    sizes, numbers = OLDER[name]
    kernel = made(sizes, rounded=name == "vision")
    of = built(kernel, preset="rtx-20")
    older = Module(image(of.source, "compute_75", 13)[0].decode().rstrip("\0"))
    object.__setattr__(of, "emulated", older)
    y, counts = run(of, kernel, **numbers)
    (HALF_ATTENTION if name == "vision" else KERNEL).check(y, kernel.outputs[0])
    assert all(count.copies == 0 for count in counts)
    assert any(count.mma > 0 for count in counts) is (name != "float32")
