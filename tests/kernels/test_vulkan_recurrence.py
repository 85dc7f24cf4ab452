"""The recurrent layers on a GPU, against a few lines of numpy."""

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from delta_reference import delta_truth, random_given
from tvm import tirx
from vulkan_operator import Kernel, check, normal, runnable, scheduled
from vulkan_running import kernel_count, needs_vulkan, tvm_target
from vulkan_targets import BARE, PORTABLE

from handglass.compiler.ops import gpu_causal_conv, gpu_delta_rule
from handglass.compiler.ops.delta_rule import Heads
from handglass.schedules.choices import Written
from handglass.schedules.gpu import recurrence

pytestmark = pytest.mark.compiler

LENGTHS = (1, 2, 3, 4, 8, 9, 333)


def conv(width: int, channels: int, taps: int, target: dict = PORTABLE) -> tirx.PrimFunc:
    with tvm_target(target):
        return gpu_causal_conv.conv_writer(width, channels, taps)


def delta(h: int, key_heads: int, e: int, f: int, target: dict = PORTABLE) -> tirx.PrimFunc:
    with tvm_target(target):
        return gpu_delta_rule.delta_writer(Heads(key_heads, h, e, f))


def conv_truth(
    tail: np.ndarray, x: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The new tail and the result."""
    taps, channels = weight.shape
    rows = np.concatenate([tail, x[:, :channels]]).astype(np.float64)
    total = sum(weight[k] * rows[k : k + len(x)] for k in range(taps))
    return rows[len(x) :], total / (1 + np.exp(-total))


@needs_vulkan
@pytest.mark.parametrize(
    ("width", "channels", "taps"), [(100, 72, 4), (13, 13, 2), (300, 257, 3), (5, 1, 7)]
)
def test_convolution(width: int, channels: int, taps: int) -> None:
    func, name = scheduled(conv(width, channels, taps))
    assert name == "vulkan-recurrence"
    kernel = runnable(func)
    for s in LENGTHS:
        tail, x = normal(taps - 1, channels), normal(s, width)
        weight = normal(taps, channels, seed=8)
        kept, _, _, out = kernel(tail, x, weight, np.full((s, channels), 77, np.float32))
        for actual, truth in zip((kept, out), conv_truth(tail, x, weight), strict=True):
            check(actual, truth)


SIZES = [(4, 2, 16, 16), (2, 1, 128, 128), (3, 3, 17, 24), (2, 2, 37, 7), (1, 1, 96, 66)]


@needs_vulkan
@pytest.mark.parametrize(("h", "key_heads", "e", "f"), SIZES)
def test_delta_rule(h: int, key_heads: int, e: int, f: int) -> None:
    func, name = scheduled(delta(h, key_heads, e, f))
    assert name == "vulkan-recurrence"
    check_delta(runnable(func), (h, key_heads, e, f), LENGTHS)


def check_delta(kernel: Kernel, sizes: tuple[int, int, int, int], lengths: tuple[int, ...]) -> None:
    h, key_heads, e, f = sizes
    for s in lengths:
        given = random_given(Heads(key_heads, h, e, f), s)
        kept, *_, out = kernel(*given.arguments(), np.full((s, h * f), 77, np.float32))
        truth = delta_truth(given)
        check(kept, truth[0], 1e-5)
        check(out.reshape(s, h, f), truth[1], 1e-5)


@needs_vulkan
@pytest.mark.parametrize(("threads", "shared"), [(16, 2048), (64, 8192), (1024, 49152)])
def test_workgroups_follow_the_target(threads: int, shared: int) -> None:
    limits = {"max_threads_per_block": threads, "max_num_threads": threads}
    target = PORTABLE | limits | {"max_shared_memory_per_block": shared}
    sizes = (2, 1, 128, 48)
    func, _ = scheduled(delta(*sizes, target), target=target)
    check_delta(runnable(func, target), sizes, (1, 11))


def test_too_little_shared_memory_is_an_error() -> None:
    with pytest.raises(ValueError, match="shared memory"):
        delta(2, 1, 128, 64, PORTABLE | {"max_shared_memory_per_block": 512})


@needs_vulkan
@pytest.mark.parametrize("threads", recurrence.RULE.offers["threads.0"])
def test_every_choice_is_right(threads: int) -> None:
    chosen = Written({f"threads.{number}": threads for number in range(2)})
    kernel = runnable(scheduled(conv(60, 60, 4), chosen)[0])
    tail, x, weight = normal(3, 60), normal(21, 60), normal(4, 60)
    kept, _, _, out = kernel(tail, x, weight, np.zeros((21, 60), np.float32))
    for actual, truth in zip((kept, out), conv_truth(tail, x, weight), strict=True):
        check(actual, truth)


@pytest.mark.parametrize("target", [PORTABLE, BARE], ids=["portable", "bare"])
def test_kernels_compile(target: dict) -> None:
    """The convolution and its tail, and one kernel for the delta rule."""
    for func, count in ((conv(96, 64, 4, target), 2), (delta(4, 2, 128, 128, target), 1)):
        found, name = scheduled(func, target=target)
        assert name == "vulkan-recurrence"
        assert kernel_count(found, target) == count
