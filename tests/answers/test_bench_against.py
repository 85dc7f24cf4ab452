"""Comparing two bundles, waiting for a steady machine, finding layers: without a bundle."""

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from handglass.runtime.devices.cuda.clock import read_gpu_clock
from handglass.runtime.measure.against import Comparison
from handglass.runtime.measure.bench import Benchmark
from handglass.runtime.measure.blocks import Part, find_parts
from handglass.runtime.measure.kernels import run_together, storage_bytes
from handglass.runtime.measure.ratios import FASTER, FEWEST, NOISE, SLOWER, TOO_FEW, compare
from handglass.runtime.measure.rows import Line, Row, Skipped
from handglass.runtime.measure.sequence import parts_of
from handglass.runtime.measure.steady import Steadiness, best_rate, is_steady
from handglass.runtime.system.clock_rate import ClockState, read_clock


def noisy(mean: float, rounds: int, seed: int, spread: float = 0.05) -> list[float]:
    return list(mean * np.exp(np.random.default_rng(seed).normal(0, spread, rounds)))


def test_known_ratios() -> None:
    slow = compare([1.0] * 9, [1.5] * 9)
    assert slow and (slow.ratio, slow.low, slow.high) == (1.5, 1.5, 1.5)
    assert slow.verdict == FASTER
    found = compare(noisy(2.0, 15, 1), noisy(1.5, 15, 2))
    assert found and found.verdict == SLOWER and found.low < 0.75 < found.high
    assert compare([], [1.0]) is None and compare([0.0], [1.0]) is None
    for odd in (math.nan, math.inf, -1.0):
        assert compare([1.0, 1.0], [1.0, odd]) is None
    few = compare([1.0] * (FEWEST - 1), [9.0] * (FEWEST - 1))
    assert few and few.verdict == TOO_FEW


def test_a_common_drift_is_no_noise() -> None:
    """Both costs of a round are drawn together, so a slow round does not widen the interval."""
    drift = np.linspace(1.0, 3.0, 15)
    found = compare(list(drift), list(1.1 * drift))
    assert found and found.low == pytest.approx(1.1) and found.high == pytest.approx(1.1)


def test_equal_costs_are_seldom_called_different() -> None:
    verdicts = [
        found.verdict
        for seed in range(200)
        if (found := compare(noisy(1.0, 9, 2 * seed), noisy(1.0, 9, 2 * seed + 1)))
    ]
    assert verdicts.count(NOISE) >= 190


class Fake:
    """A benchmark whose rows cost what a function of the round says; notes who was sampled."""

    def __init__(self, name: str, lines: list[Line], noted: list[tuple[str, str]]) -> None:
        self.name, self.lines, self.noted = name, lines, noted
        self.limits: Any = None
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    def sample(self, row: Row) -> None:
        self.noted.append((self.name, row.name))
        row.samples.append(row.measure())

    entry = Benchmark.entry
    no_limits = ""

    def _extra(self, row: Row) -> str:
        return ""


def two_sides(noted: list[tuple[str, str]]) -> Comparison:
    ours: list[Line] = [
        Row("encode", "ms", lambda: 1.0),
        Row("pp64", "tok/s", lambda: 2.0, count=64),
        Row("load", "s", lambda: 1.0, most=2),
        Skipped("pp512", "tok/s", "needs a context of 512"),
    ]
    others: list[Line] = [
        Row("encode", "ms", lambda: 1.2),
        Row("pp64", "tok/s", lambda: 1.0, count=64),
        Row("load", "s", lambda: 1.0, most=2),
        Row("ttft", "ms", lambda: 1.0),
    ]
    return Comparison(Fake("a", ours, noted), Fake("b", others, noted))


def test_two_bundles_row_by_row() -> None:
    noted: list[tuple[str, str]] = []
    comparison, betweens = two_sides(noted), []
    comparison.run(8, between=lambda: betweens.append(len(noted)))
    rows = {row["row"]: row for row in comparison.report()}
    assert rows["encode"]["ratio"] == pytest.approx(1.2) and rows["encode"]["verdict"] == FASTER
    assert rows["pp64"]["ratio"] == pytest.approx(0.5), "half the time is twice the rate"
    assert rows["pp64"]["a"]["median"] == 32 and rows["pp64"]["b"]["median"] == 64
    assert (rows["load"]["rounds"], rows["load"]["verdict"]) == (2, TOO_FEW)
    assert rows["pp512"]["note"].startswith("A: needs a context") and rows["pp512"]["ratio"] is None
    assert rows["ttft"]["note"] == "A: the bundle has no such row"
    assert len(betweens) == 8 and betweens[:2] == [0, 6]


def test_rounds_are_in_random_order_with_both_sides_together() -> None:
    noted: list[tuple[str, str]] = []
    two_sides(noted).run(12)
    turns = list(zip(noted[::2], noted[1::2], strict=True))
    assert all(first[1] == second[1] and first[0] != second[0] for first, second in turns)
    assert {first[0] for first, _ in turns} == {"a", "b"}
    assert len({first[1] for first, _ in turns[::3]}) > 1


def test_an_interrupted_comparison_keeps_its_pairs() -> None:
    noted: list[tuple[str, str]] = []
    comparison = two_sides(noted)

    def between() -> None:
        if len(noted) > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        comparison.run(100, between=between)
    rows = {row["row"]: row for row in comparison.report()}
    assert rows["encode"]["rounds"] == 5 and rows["encode"]["verdict"] == TOO_FEW


def ticking(step: float) -> Callable[[], float]:
    times = iter(np.arange(0, 1e6, step))
    return lambda: float(next(times))


def readings(*values: float) -> Callable[[], float]:
    """One after the other, then the last one for ever."""
    found: Iterator[float] = iter(values)
    last = [values[-1]]

    def reading() -> float:
        last[0] = next(found, last[0])
        return last[0]

    return reading


def test_waits_until_the_speed_is_steady() -> None:
    cooling = readings(*(1e9 * (1 + math.exp(-n / 3)) for n in range(40)))
    steady = Steadiness(cooling, lambda: ClockState(2000.0, 4, 60.0), ticking(0.2))
    steady.settle(60)
    report = steady.report()
    assert report["became_steady"] is True and 10 < len(steady.waited) < 20
    assert report["drift"] == 0 and report["clock_mhz"]["median"] == 2000.0


def test_gives_up_on_a_machine_that_never_is() -> None:
    steady = Steadiness(readings(*(1e9, 2e9) * 500), lambda: ClockState(None, None, None))
    steady.clock = ticking(0.5)
    steady.settle(5)
    for _ in range(3):
        steady.note()
    report = steady.report()
    assert report["became_steady"] is False and report["drifted"] and report["drift"] > 0.3
    assert report["waited_s"] >= 5
    assert report["clock_mhz"]["median"] is None and report["throttled"] is None


def test_no_limit_no_wait() -> None:
    steady = Steadiness(readings(1e9, 1.2e9), lambda: ClockState(1.0, 7, None))
    steady.settle(0)
    assert steady.waited == [] and steady.report()["became_steady"] is None
    steady.states.append(ClockState(1.0, 9, None))
    assert steady.report()["throttled"] == 2


def test_a_reference_is_the_best_of_its_time() -> None:
    assert best_rate(readings(1.0, 5.0, 2.0), ticking(0.09)) == 5.0
    assert not is_steady([1.0] * 4) and is_steady([9.0, *[1.0] * 5])


def test_the_clock_of_a_machine(tmp_path: Path) -> None:
    cpu, zones = tmp_path / "sys/devices/system/cpu", tmp_path / "sys/class/thermal"
    for number, khz in ((0, "1500000"), (1, "2500000")):
        (cpu / f"cpu{number}/cpufreq").mkdir(parents=True)
        (cpu / f"cpu{number}/cpufreq/scaling_cur_freq").write_text(f"{khz}\n")
        (cpu / f"cpu{number}/thermal_throttle").mkdir()
        (cpu / f"cpu{number}/thermal_throttle/core_throttle_count").write_text("3")
    for number, millidegrees in enumerate(("61000", "-274000", "not a number")):
        (zones / f"thermal_zone{number}").mkdir(parents=True)
        (zones / f"thermal_zone{number}/temp").write_text(millidegrees)
    assert read_clock(tmp_path, {0, 1}) == ClockState(2000.0, 6, 61.0)
    assert read_clock(tmp_path / "none", {0}) == ClockState(None, None, None)
    firmware = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    firmware.parent.mkdir(parents=True)
    for value, limited in (("50005", True), ("0x50000", False), ("0", False), ("?", None)):
        firmware.write_text(f"{value}\n")
        assert read_clock(tmp_path, {0}).limited is limited
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("cpu MHz\t\t: 2100.000\ncpu MHz\t\t: 2300.5\n")
    assert read_clock(tmp_path, {7}).mhz == 2200.25


GPU_LINES = [
    ("1980, 41, 0x0000000000000001", ClockState(1980.0, None, 41.0, False)),
    ("1200, 86, 0x0000000000000024\n", ClockState(1200.0, None, 86.0, True)),
    ("[N/A], [Not Supported], [N/A]", ClockState(None, None, None)),
    ("No devices were found", ClockState(None, None, None)),
]


@pytest.mark.parametrize(("line", "state"), GPU_LINES)
def test_the_clock_of_a_gpu(line: str, state: ClockState, tmp_path: Path) -> None:
    program = tmp_path / "smi"
    asked = tmp_path / "asked"
    program.write_text(f"#!/bin/sh\nprintf '%s ' \"$@\" > {asked}\nprintf '{line}'\n")
    program.chmod(0o755)
    assert read_gpu_clock("01234567-89ab", str(program)) == state
    assert "--id=GPU-01234567-89ab " in asked.read_text()
    assert read_gpu_clock("x", str(tmp_path / "none")) == ClockState(None, None, None)


LAYER = ["norm", "qkv", "attention", "out", "norm", "up", "down"]


def test_layers_are_what_repeats() -> None:
    calls = ["embed", *LAYER * 12, "norm", "head"]
    assert find_parts(calls) == [Part(0, 1, 1), Part(1, 7, 12), Part(85, 2, 1)]
    mixed = [*["conv", "a", "b", "c"] * 3, "attention", "a", "b", "c"]
    assert find_parts(mixed * 5)[0] == Part(0, 16, 5), "several layers are one block"
    assert find_parts(["x", "y"]) == [Part(0, 2, 1)] and find_parts([]) == []


def test_two_towers_are_two_parts() -> None:
    calls = ["patches", *LAYER * 6, "between", *["r1", "r2", "r3", "r4"] * 3]
    counts = [(part.start, part.count) for part in find_parts(calls)]
    assert counts == [(0, 1), (1, 6), (43, 1), (44, 3)]


def test_random_calls_are_covered_once() -> None:
    order = random.Random(3)
    for _ in range(20):
        calls = order.choices("abc", k=order.randrange(1, 60))
        parts = find_parts(calls)
        assert [part.start for part in parts] == [0, *(part.end for part in parts[:-1])]
        assert parts[-1].end == len(calls)
        for part in parts:
            block = calls[part.start : part.start + part.period]
            assert calls[part.start : part.end] == block * part.count


def test_the_time_of_each_part() -> None:
    order = ["embed", *["norm", "a", "b", "c"] * 2, "head"]
    seconds = {name: [0.001] * 3 * order.count(name) for name in set(order)}
    seconds["norm"] = [0.001, 0.005, 0.002, 0.005, 0.003, 0.005]  # 2 calls in each of 3 steps
    parts = parts_of(order, seconds, 3)
    assert [part["blocks"] for part in parts] == [1, 2, 1]
    assert parts[1]["block_ms"] == pytest.approx([5.0, 8.0])
    assert parts[1]["kernels"][0] == {"kernel": "norm", "calls": 2, "ms": pytest.approx(7.0)}
    assert sum(part["ms"] for part in parts) == pytest.approx(15.0)
    assert parts_of(order, {**seconds, "a": [0.001]}, 3) == [], "a step called other kernels"


def test_bytes_of_a_storage() -> None:
    eight, four = SimpleNamespace(bits=8, lanes=1), SimpleNamespace(bits=32, lanes=1)
    assert storage_bytes([object(), (3, 5), 0, eight, "global"]) == 15
    assert storage_bytes([object(), [3, 5], 0, four, "global"]) == 60


def test_bundles_take_turns() -> None:
    noted: list[str] = []
    works: list[Any] = [
        SimpleNamespace(prepare=lambda: None, sample=lambda name=name: noted.append(name))
        for name in "ab"
    ]
    run_together(works, 10, lambda *_: None)
    rounds = [tuple(noted[n : n + 2]) for n in range(0, 20, 2)]
    assert set(rounds) == {("a", "b"), ("b", "a")}
