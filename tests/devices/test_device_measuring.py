"""Timing and comparing on a device, with correct, wrong and misbehaving libraries."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from device_library import SCALED, VARIANTS, K, N, library, tensor

from handglass.runtime.bundle.bfloat16 import bfloat16_bits
from handglass.runtime.execution import kernel_timing as measuring
from handglass.runtime.execution.kernel_arguments import Arguments, read_items
from handglass.runtime.execution.kernel_timing import difference, measure
from handglass.runtime.remote.client import DeviceClient, Difference
from handglass.runtime.remote.local import Endpoint


@pytest.fixture(scope="module")
def client(device: Endpoint) -> Iterator[DeviceClient]:
    """A client with every variant of the library loaded."""
    with DeviceClient(*device) as client:
        for variant in VARIANTS:
            client.put(variant, library(variant))
            client.load(variant)
        yield client


def compared(client: DeviceClient, candidate: str) -> tuple[Difference, Difference]:
    """The differences of x and y after `scale` of the correct library and of another one."""
    client.arguments("xyk", SCALED)
    x, y = client.compare("right", candidate, "scale", "xyk", seed=9)
    assert (x.index, y.index) == (0, 1)
    return x, y


def test_equal_libraries(client: DeviceClient) -> None:
    for tensor_ in compared(client, "right"):
        assert (tensor_.snr_db, tensor_.max_error, tensor_.finite) == (None, 0, True)
        assert tensor_.largest > 2


def test_a_wrong_result(client: DeviceClient) -> None:
    x, y = compared(client, "wrong")
    assert x.snr_db is None
    assert y.snr_db is not None and y.finite
    assert y.max_error == pytest.approx(1, rel=1e-5)
    assert y.snr_db == pytest.approx(10 * math.log10(N * K * K), abs=1)  # for an error of 1


def test_a_result_that_is_no_number(client: DeviceClient) -> None:
    x, y = compared(client, "not-a-number")
    assert x.finite and not y.finite
    assert y.snr_db is None  # the ratio covers finite values only, hence `finite`


def test_a_candidate_that_writes_into_an_input(client: DeviceClient) -> None:
    x, y = compared(client, "writes-input")
    assert y.snr_db is None and y.finite
    assert x.snr_db is not None and x.max_error == pytest.approx(1, rel=1e-5)


def test_comparing_begins_anew_each_time(client: DeviceClient) -> None:
    """`count` accumulates in place, so both libraries must start from the same values."""
    client.arguments("x", [tensor(3, kind="normal", scale=1.0)], copies=2)
    for _ in range(2):
        (x,) = client.compare("right", "wrong", "count", "x")
        assert x.snr_db is None


def test_seconds_are_per_call(client: DeviceClient) -> None:
    client.arguments("xyk", SCALED, copies=3)
    seconds = client.measure("right", "scale", "xyk", number=4, samples=5)
    assert len(seconds) == 5 and all(0 < value < 0.5 for value in seconds)


def test_calls_walk_over_the_copies() -> None:
    arguments = Arguments(read_items([tensor(1, dtype="int32", kind="constant", value=0)]), 3, 0)
    seen = []
    measure(lambda x: seen.append(x), arguments.calls, number=4, samples=2)
    places = [[a[0] for a in arguments.calls].index(x) for x in seen]
    assert places == [0, 1, 2, *[0, 1, 2, 0], *[1, 2, 0, 1]]  # warm-up, then two samples


CASES: list[tuple[list[float], list[float], float | None, bool]] = [
    ([1, 2], [1, 2], None, True),
    ([3, 4], [3, 4.5], 20, True),
    ([0, 0], [0, 1], -400, True),
    ([0, 0], [0, 0], None, True),
    ([1, 2], [1, math.nan], None, False),
    ([1, 2], [1, math.inf], None, False),
    ([1, math.nan], [1, 2], None, False),
    ([1, math.nan], [1, math.nan], None, True),
    ([1, math.inf], [1, math.inf], None, True),
    ([1, math.inf], [1, -math.inf], None, False),
    ([1, math.inf], [1, math.nan], None, False),
    ([3, 4, math.nan], [3, 4.5, math.nan], 20, True),
]


@pytest.mark.parametrize("chunk", [1, 100])
@pytest.mark.parametrize(("expected", "actual", "snr_db", "finite"), CASES)
def test_difference(
    expected: list[float],
    actual: list[float],
    snr_db: float | None,
    finite: bool,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measuring, "_CHUNK", chunk)
    found = difference(np.array(expected), np.array(actual), lambda stored: stored)
    assert found["snr_db"] == (snr_db if snr_db is None else pytest.approx(snr_db))
    assert found["finite"] is finite
    both = [
        (e, a)
        for e, a in zip(expected, actual, strict=True)
        if math.isfinite(e) and math.isfinite(a)
    ]
    assert found["max_error"] == max(abs(e - a) for e, a in both)
    assert found["largest"] == max(abs(e) for e, _ in both)


def test_bytes_do_not_wrap_when_they_are_compared() -> None:
    expected, actual = np.array([0, 255], np.uint8), np.array([255, 0], np.uint8)
    found = difference(expected, actual, lambda stored: stored)
    assert (found["max_error"], found["snr_db"]) == (255, pytest.approx(-10 * math.log10(2)))


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_bfloat16_is_compared_as_numbers(dtype: str) -> None:
    items = read_items([tensor(6, dtype=dtype, kind="bfloat16", scale=1.0)])
    arguments = Arguments(items, 1, 0)

    def write(value: float) -> Callable[..., None]:
        def function(_: object) -> None:
            arguments.arrays[0].view(np.uint16)[...] = bfloat16_bits(np.float32(value))

        return function

    (row,) = measuring.compare(write(2.0), write(2.5), arguments, 0)
    assert (row["max_error"], row["largest"]) == (0.5, 2)
    assert row["snr_db"] == pytest.approx(20 * math.log10(4))


@pytest.mark.compiler
def test_a_library_of_the_compiler(client: DeviceClient) -> None:
    """A matmul built by TVM's default, and one with another schedule and a loop cut short."""
    pytest.importorskip("tvm", reason="builds a library with the TVM compiler")
    from device_kernels import matmul_library

    client.put("plain", matmul_library(k=64))
    client.put("short", matmul_library(k=63))
    client.load("plain")
    client.load("short")
    shapes = [(9, 64), (64, 31), (9, 31)]
    client.arguments("abc", [tensor(*shape, kind="normal", scale=1.0) for shape in shapes])
    a, b, c = client.compare("plain", "short", "matmul", "abc")
    assert a.snr_db is None and b.snr_db is None
    assert c.snr_db is not None and 10 < c.snr_db < 26  # one product of 64 is missing: 18 dB
    assert client.compare("plain", "plain", "matmul", "abc")[2].snr_db is None
    assert min(client.measure("plain", "matmul", "abc", number=10, samples=3)) > 0
