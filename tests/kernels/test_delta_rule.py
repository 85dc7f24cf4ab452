"""The gated delta rule on a CPU, position by position and in chunks, against the recurrence in
float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from delta_reference import Given, delta_truth, random_given
from thinned import thinned
from tvm import tirx

from handglass.compiler.ops.delta_rule import Heads, delta_step, delta_writer
from handglass.schedules import CPU_RULES
from handglass.schedules.choices import Defaults, Noted, Open, UnknownChoiceError, Written
from handglass.schedules.cpu import delta_step as delta_step_choices
from handglass.schedules.cpu import recurrence
from handglass.schedules.cpu.tasks import SERIAL
from handglass.schedules.rule import replay, schedule_function
from handglass.schedules.select import CPU_UNITS
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.levels]

TOLERANCE = 5e-6
SMALLEST = float(np.finfo(np.float32).tiny) / TOLERANCE
"""Errors below the smallest normal number do not count."""
HOST = tvm.target.Target(find_target("host").tvm)
MIXED = Heads(keys=2, values=4, key_dim=16, value_dim=24)
ODD = Heads(keys=1, values=3, key_dim=17, value_dim=7)
WIDER = Heads(keys=2, values=6, key_dim=16, value_dim=24)
RELEASED = Heads(keys=1, values=2, key_dim=128, value_dim=128)

Kernel = Callable[[Given], tuple[np.ndarray, np.ndarray]]


@cache
def kernel(heads: Heads, chunk: int) -> Kernel:
    return built(replay(delta_writer(heads), recurrence.RULE, HOST, {"chunk": chunk}).mod["main"])


def built(func: tirx.PrimFunc) -> Kernel:
    """Returns the new state and the result."""
    mod = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    module = tvm.compile(mod, HOST)

    def run(given: Given) -> tuple[np.ndarray, np.ndarray]:
        s, h, f = given.values.shape
        held = [tvm.runtime.tensor(x) for x in given.arguments()]
        out = tvm.runtime.tensor(np.full((s, h * f), 77, np.float32))
        module["main"](*held, out)
        return held[0].numpy(), out.numpy().reshape(s, h, f)

    return run


def check(run: Kernel, given: Given) -> None:
    for actual, truth in zip(run(given), delta_truth(given), strict=True):
        assert np.isfinite(actual).all()
        largest = max(float(np.abs(truth).max()), SMALLEST)
        assert np.abs(actual - truth).max() <= TOLERANCE * largest


LENGTHS = (1, 2, 8, 9, 16, 17, 25, 31, 33, 40, 64, 65, 100, 131)


@pytest.mark.parametrize(("heads", "chunk"), thinned(3, [MIXED, ODD], recurrence.CHUNKS))
def test_every_length_and_choice(heads: Heads, chunk: int) -> None:
    for s in LENGTHS:
        check(kernel(heads, chunk), random_given(heads, s))


@pytest.mark.parametrize("chunk", recurrence.CHUNKS)
def test_the_released_size(chunk: int) -> None:
    for s in (1, 77, 300):
        check(kernel(RELEASED, chunk), random_given(RELEASED, s))


def test_a_prompt_in_parts_is_the_whole_prompt() -> None:
    run, whole = kernel(MIXED, 32), random_given(MIXED, 150)
    state, parts = whole.state, []
    for first, last in ((0, 1), (1, 70), (70, 71), (71, 150)):
        rows = (x[first:last] for x in (whole.unit, whole.values, whole.gates))
        state, out = run(type(whole)(state, *rows))
        parts.append(out)
    truth = delta_truth(whole)
    for actual, expected in zip((state, np.concatenate(parts)), truth, strict=True):
        assert np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max()


ONE = np.float32(1)
DECAYS = {
    "none": ONE,
    "nearly none": np.float32(1 - 2**-24),
    "all": np.float32(0),
    "nearly all": np.float32(1e-30),
    "below normal numbers": np.float32(1e-40),
    "half": np.float32(0.5),
}


@pytest.mark.parametrize(
    ("step", "decay", "chunk"), thinned(5, [0, 1e-6, 1], DECAYS.values(), recurrence.CHUNKS)
)
def test_extreme_gates(step: float, decay: np.float32, chunk: int) -> None:
    given, h = random_given(MIXED, 70), MIXED.values
    given.gates[:, :h], given.gates[:, h:] = step, decay
    check(kernel(MIXED, chunk), given)


@pytest.mark.parametrize("chunk", recurrence.CHUNKS)
def test_one_position_forgets_everything_among_slow_decays(chunk: int) -> None:
    """Differences of sums of logarithms would lose the slow decays after it."""
    given, h = random_given(MIXED, 64), MIXED.values
    given.gates[:, h:] = 0.999
    given.gates[[5, 20, 21, 47], h:] = 1e-38
    check(kernel(MIXED, chunk), given)


@pytest.mark.parametrize("chunk", recurrence.CHUNKS)
@pytest.mark.parametrize("different", [1, 2])
def test_repeated_keys(different: int, chunk: int) -> None:
    """The triangular system is then as far from the identity as it gets."""
    given, h = random_given(MIXED, 64), MIXED.values
    given.unit[:] = given.unit[np.arange(64) % different]
    given.gates[:] = 1
    check(kernel(MIXED, chunk), given)
    given.gates[:, h:] = 0.9
    check(kernel(MIXED, chunk), given)


@pytest.mark.parametrize("units", CPU_UNITS, ids=lambda units: units.integers.name)
def test_the_default_is_offered(units: object) -> None:
    assert recurrence.measured_chunk(units) in recurrence.CHUNKS  # type: ignore[arg-type]


def test_the_choice_is_noted_and_left_open() -> None:
    func = delta_writer(MIXED)
    noted, opened = Noted(), Open()
    for choices in (noted, opened, Defaults()):
        found = schedule_function(func, CPU_RULES, HOST, choices)
        assert found is not None and found[1] is recurrence.RULE
    assert set(noted.values) == set(opened.options) == {"chunk", "rows", "columns"}
    assert opened.options["chunk"] == recurrence.CHUNKS
    with pytest.raises(UnknownChoiceError, match="chunk"):
        schedule_function(func, [recurrence.RULE], HOST, Written({"chunk": 48}))


def test_one_position_has_no_chunks() -> None:
    noted = Noted()
    found = schedule_function(delta_step(RELEASED), CPU_RULES, HOST, noted)
    assert found is not None and found[1] is recurrence.RULE
    assert noted.values == {"unroll": 1, "per_task": 1}
    check(built(found[0].mod["main"]), random_given(RELEASED, 1))


@pytest.mark.parametrize(
    ("unroll", "per_task"), thinned(2, delta_step_choices.UNROLLED, [1, 2, SERIAL])
)
def test_every_step(unroll: int, per_task: int) -> None:
    """6 tasks of 16 keys."""
    chosen = {"unroll": unroll, "per_task": per_task}
    func = replay(delta_step(WIDER), recurrence.RULE, HOST, chosen).mod["main"]
    check(built(func), random_given(WIDER, 1))


@pytest.mark.parametrize(("rows", "columns"), thinned(2, recurrence.ROWS, [1, 3]))
def test_every_register_tile(rows: int, columns: int) -> None:
    chosen = {"chunk": 16, "rows": rows, "columns": columns}
    run = built(replay(delta_writer(MIXED), recurrence.RULE, HOST, chosen).mod["main"])
    for s in (9, 40, 77):
        check(run, random_given(MIXED, s))


def test_the_choice_changes_the_nest() -> None:
    """Without chunks, the function is that of the operator."""
    nests = {
        chunk: replay(delta_writer(MIXED), recurrence.RULE, HOST, {"chunk": chunk}).mod["main"]
        for chunk in recurrence.CHUNKS
    }
    scripts = {chunk: nest.script() for chunk, nest in nests.items()}
    assert len(set(scripts.values())) == len(recurrence.CHUNKS)
    assert [chunk for chunk, text in scripts.items() if "delta_chunks" not in text] == [1]
