"""Times a compiled function, and compares the results of two of them."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import numpy as np

from .kernel_arguments import Arguments

Function = Callable[..., Any]
LIMIT_DB = 400.0
"""Ratios are clamped to this; the limit of double precision is about 320 dB."""
_CHUNK = 1 << 20  # values compared at a time, because float64 temporaries are several times larger


def measure(
    function: Function,
    calls: Sequence[tuple[Any, ...]],
    number: int,
    samples: int,
    wait: Callable[[], object] = lambda: None,
) -> list[float]:
    """Seconds per call for each sample of `number` calls, which cycle through the arguments.

    `wait` returns when all started work has finished; every sample ends with a `wait`.
    """
    for arguments in calls:
        function(*arguments)
    wait()
    turns = cycle(calls)
    with _no_collection():
        return [_sample(function, turns, number, wait) for _ in range(samples)]


def _sample(
    function: Function,
    turns: Iterator[tuple[Any, ...]],
    number: int,
    wait: Callable[[], object],
) -> float:
    calls = islice(turns, number)
    start = time.perf_counter_ns()
    for arguments in calls:
        function(*arguments)
    wait()
    return (time.perf_counter_ns() - start) / number / 1e9


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable Python's garbage collector during samples."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def compare(
    reference: Function, candidate: Function, arguments: Arguments, seed: int
) -> list[dict[str, Any]]:
    """One row per tensor, including inputs: a candidate must not modify what the reference does
    not. Rows have `index` and the keys of `difference`."""
    arguments.refill(seed)
    reference(*arguments.calls[0])
    expected = {n: array.copy() for n, array in arguments.results().items()}
    arguments.refill(seed)
    candidate(*arguments.calls[0])
    return [
        {"index": n, **difference(expected[n], actual, arguments.tensors[n].numbers)}
        for n, actual in arguments.results().items()
    ]


def difference(
    expected: np.ndarray, actual: np.ndarray, numbers: Callable[[np.ndarray], np.ndarray]
) -> dict[str, Any]:
    """Signal-to-noise ratio in dB (None: equal), largest error and largest expected value, over the
    values that are finite in both.

    `numbers` converts stored values to numbers. `finite` is False if a value is finite in only one
    of the arrays, or an infinity or NaN in one is matched by another value.
    """
    signal = noise = largest = max_error = 0.0
    finite = True
    for start in range(0, expected.size, _CHUNK):
        e, a = (
            numbers(array.reshape(-1)[start : start + _CHUNK]).astype(np.float64)
            for array in (expected, actual)
        )
        both = np.isfinite(e) & np.isfinite(a)
        finite = finite and np.array_equal(e[~both], a[~both], equal_nan=True)
        e, error = e[both], e[both] - a[both]
        signal, noise = signal + float(e @ e), noise + float(error @ error)
        largest = max(largest, float(np.abs(e).max(initial=0)))
        max_error = max(max_error, float(np.abs(error).max(initial=0)))
    ratio = _decibels(signal, noise)
    return {"snr_db": ratio, "max_error": max_error, "largest": largest, "finite": finite}


def _decibels(signal: float, noise: float) -> float | None:
    if noise == 0:
        return None
    if signal == 0:
        return -LIMIT_DB
    return max(-LIMIT_DB, min(LIMIT_DB, 10 * math.log10(signal / noise)))
