"""The recurrent layers on a GPU, against a few lines of numpy."""

from functools import cache

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from delta_reference import Given, delta_truth, random_given
from operator_device import different
from tvm import tirx
from vulkan_operator import Kernel, check, normal, runnable, scheduled
from vulkan_running import kernel_count, needs_vulkan, operations, shaders, tvm_target
from vulkan_targets import BARE, PORTABLE, limited

from handglass.compiler.ops import gpu_causal_conv, gpu_delta_rule
from handglass.compiler.ops.delta_rule import Heads
from handglass.schedules.choices import Noted, Written
from handglass.schedules.gpu import delta_choices, recurrence

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


AMPLE = PORTABLE | {"max_shared_memory_per_block": 32 << 10}
"""Memory for chunks of the released size."""
SIZES = [(4, 2, 16, 16), (2, 1, 128, 128), (3, 3, 17, 24), (2, 2, 37, 7), (1, 1, 96, 66)]


@needs_vulkan
@pytest.mark.parametrize("target", different({"portable": PORTABLE, "ample": AMPLE}))
@pytest.mark.parametrize(("h", "key_heads", "e", "f"), SIZES)
def test_delta_rule(h: int, key_heads: int, e: int, f: int, target: dict) -> None:
    func, name = scheduled(delta(h, key_heads, e, f, target), target=target)
    assert name == "vulkan-recurrence"
    check_delta(runnable(func, target), (h, key_heads, e, f), LENGTHS)


def check_delta(kernel: Kernel, sizes: tuple[int, int, int, int], lengths: tuple[int, ...]) -> None:
    h, key_heads, e, f = sizes
    for s in lengths:
        check_given(kernel, random_given(Heads(key_heads, h, e, f), s))


def check_given(kernel: Kernel, given: Given) -> None:
    truth = delta_truth(given)
    for actual, expected in zip(called(kernel, given), truth, strict=True):
        assert np.isfinite(actual).all()
        check(actual, expected, 1e-5)


def called(kernel: Kernel, given: Given) -> tuple[np.ndarray, np.ndarray]:
    """The new state and the result."""
    s, h, f = given.values.shape
    kept, *_, out = kernel(*given.arguments(), np.full((s, h * f), 77, np.float32))
    return kept, out.reshape(s, h, f)


MIXED = (4, 2, 16, 32)
RELEASED = (2, 1, 128, 128)


@cache
def chunked(sizes: tuple[int, int, int, int], products: int, chunk: int, parts: int = 2) -> Kernel:
    chosen = Written({"products": products, "chunk": chunk, "parts": parts})
    return runnable(scheduled(delta(*sizes, AMPLE), chosen, AMPLE)[0], AMPLE)


BOTH = delta_choices.OFFERS["products"]
each_form = pytest.mark.parametrize(("products", "chunk"), [(0, 8), (1, 8), (1, 16)])


@needs_vulkan
@pytest.mark.parametrize("chunk", delta_choices.OFFERS["chunk"])
@pytest.mark.parametrize("products", BOTH, ids=["one by one", "in products"])
def test_every_chunk_and_its_tail(products: int, chunk: int) -> None:
    check_delta(chunked(MIXED, products, chunk), MIXED, (1, 2, 7, 8, 15, 16, 17, 31, 33, 65))


@needs_vulkan
@pytest.mark.parametrize("parts", delta_choices.OFFERS["parts"])
@pytest.mark.parametrize("chunk", [1, 8, 16])
def test_every_number_of_parts(chunk: int, parts: int) -> None:
    """Where a part has one row or several, of queries and keys or of one of them."""
    check_delta(chunked(MIXED, 1, chunk, parts), MIXED, (5, 33))


@needs_vulkan
def test_nothing_leaks_from_the_last_position() -> None:
    """Positions beyond it repeat it: a value that is not finite stays in its column, a query in its
    row."""
    h, key_heads, e, f = MIXED
    given = random_given(Heads(key_heads, h, e, f), 11)
    state, out = delta_truth(given)
    given.values[-1, 1, 5] = np.inf
    given.unit[-1, 0, 0, 3] = np.nan  # a query
    actual, result = called(chunked(MIXED, 1, 8), given)
    columns = np.ones((h, f), bool)
    columns[1, 5] = False
    assert not np.isfinite(actual[1, :, 5]).any()
    check(np.moveaxis(actual, 1, 2)[columns], np.moveaxis(state, 1, 2)[columns], 1e-5)
    check(result[:-1, columns], out[:-1, columns], 1e-5)


@needs_vulkan
@each_form
def test_the_released_size(products: int, chunk: int) -> None:
    check_delta(chunked(RELEASED, products, chunk), RELEASED, (1, 77, 300))


@needs_vulkan
@pytest.mark.parametrize("columns", delta_choices.OFFERS["columns"])
@pytest.mark.parametrize("threads", delta_choices.OFFERS["threads"])
@pytest.mark.parametrize("products", BOTH)
def test_every_workgroup(products: int, threads: int, columns: int) -> None:
    """More threads than a step has work for, and fewer than columns."""
    chosen = {"products": products, "chunk": 8, "threads": threads, "columns": columns, "parts": 4}
    sizes = (2, 1, 36, 64)
    func, _ = scheduled(delta(*sizes, AMPLE), Written(chosen), AMPLE)
    check_delta(runnable(func, AMPLE), sizes, (19,))


@needs_vulkan
@each_form
def test_a_prompt_in_parts_is_the_whole_prompt(products: int, chunk: int) -> None:
    kernel, (h, key_heads, e, f) = chunked(MIXED, products, chunk), MIXED
    whole = random_given(Heads(key_heads, h, e, f), 90)
    state, parts = whole.state, []
    for first, last in ((0, 1), (1, 40), (40, 41), (41, 90)):
        rows = (x[first:last] for x in (whole.unit, whole.values, whole.gates))
        state, out = called(kernel, Given(state, *rows))
        parts.append(out)
    for actual, expected in zip((state, np.concatenate(parts)), delta_truth(whole), strict=True):
        check(actual, expected, 1e-5)


@needs_vulkan
@each_form
@pytest.mark.parametrize("decay", [1, 1 - 2**-24, 0, 1e-30, 0.5])
@pytest.mark.parametrize("step", [0, 1e-6, 1], ids=["keep", "hardly", "replace"])
def test_extreme_gates(step: float, decay: float, products: int, chunk: int) -> None:
    given, h = random_given(Heads(2, 4, 16, 32), 50), 4
    given.gates[:, :h], given.gates[:, h:] = step, decay
    check_given(chunked(MIXED, products, chunk), given)


@needs_vulkan
@each_form
def test_one_position_forgets_everything_among_slow_decays(products: int, chunk: int) -> None:
    """Differences of sums of logarithms would lose the slow decays after it."""
    given, h = random_given(Heads(2, 4, 16, 32), 64), 4
    given.gates[:, h:] = 0.999
    given.gates[[5, 20, 21, 47], h:] = 1e-38
    check_given(chunked(MIXED, products, chunk), given)


@needs_vulkan
@each_form
@pytest.mark.parametrize("different", [1, 2])
def test_repeated_keys(different: int, products: int, chunk: int) -> None:
    """The triangular system is then as far from the identity as it gets."""
    given = random_given(Heads(2, 4, 16, 32), 64)
    given.unit[:] = given.unit[np.arange(64) % different]
    given.gates[:] = 1
    check_given(chunked(MIXED, products, chunk), given)


@needs_vulkan
def test_one_position_has_a_kernel_of_its_own() -> None:
    with tvm_target(AMPLE):
        func = gpu_delta_rule.delta_step(Heads(1, 2, 128, 128))
    noted = Noted()
    kernel = runnable(scheduled(func, noted, AMPLE)[0], AMPLE)
    assert set(noted.values) == {"columns", "threads"}
    check_delta(kernel, RELEASED, (1,))


BARRIER = 224
"""The opcode of OpControlBarrier."""


@pytest.mark.parametrize(("products", "barriers"), [(0, 2 + 2), (1, 5 + 1)])
def test_chunks_need_fewer_barriers(products: int, barriers: int) -> None:
    """Two for a few positions and two per position; in products, five per chunk and one at the end.

    Products are the default where a chunk fits."""
    func, noted = delta(*RELEASED, AMPLE), Noted()
    scheduled(func, noted, AMPLE)
    assert noted.values | {"products": 1, "chunk": 8, "parts": 2} == noted.values
    (shader,) = shaders(scheduled(func, Written({"products": products}), AMPLE)[0], AMPLE)
    assert operations(shader.words).count(BARRIER) == barriers


@needs_vulkan
@pytest.mark.parametrize("target", different(limited((16, 2048), (64, 8192), (1024, 32768))))
def test_workgroups_follow_the_target(target: dict) -> None:
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
