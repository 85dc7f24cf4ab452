"""The states of conversations: apart from each other, and copied by position."""

import itertools

import numpy as np
import pytest

from handglass.runtime.bundle.entries import POSITIONS, RECURRENT, StateEntry, StateTensor
from handglass.runtime.engine.state import State
from handglass.runtime.execution.placement import Host

LAYOUTS = {
    "k": ((2, 4, 5, 16), "float32"),
    "v": ((2, 64, 5), "float32"),
    "k_scale": ((2, 4, 16), "float32"),
    "rotations": ((64, 6), "float32"),
    "k8": ((2, 4, 8, 16), "int8"),
    "heads as many as panels": ((4, 4, 5, 16), "float32"),
    "heads as many as positions": ((64, 64, 2), "float32"),
    "wide heads": ((2, 4, 64, 16), "float32"),
    "sixteen wide": ((4, 64, 16), "float16"),
}
"""Shapes that the compiler uses for 64 positions (compiler/ops/layout.py), and confusing ones."""


def entry(name: str, kind: str = POSITIONS) -> StateEntry:
    shape, dtype = LAYOUTS[name]
    return StateEntry(64, (StateTensor(name, shape, dtype, kind),))


def filled(name: str, kind: str = POSITIONS) -> State:
    state = State(entry(name, kind), Host())
    (view,) = state.views()
    numbers = np.arange(1, view.size + 1) % 100
    state.fill([numbers.reshape(view.shape).astype(view.dtype)])
    return state


def by_position(name: str, array: np.ndarray) -> np.ndarray:
    """The array with the axis of its 64 positions first."""
    if name.startswith(("k", "wide", "heads as many as panels")):
        moved = np.moveaxis(array, (1, -1), (0, 1))  # panels of 16 positions
        return moved.reshape(64, -1)
    axis = 0 if name == "rotations" else 1
    return np.moveaxis(array, axis, 0).reshape(64, -1)


@pytest.mark.parametrize(("name", "count"), [*itertools.product(LAYOUTS, (1, 15, 16, 17, 40, 64))])
def test_the_first_positions_are_copied(name: str, count: int) -> None:
    source, to = filled(name), State(entry(name), Host())
    to.copy_positions(source, count)
    expected, found = by_position(name, source.views()[0]), by_position(name, to.views()[0])
    assert np.array_equal(found[:count], expected[:count])


def test_only_what_is_needed_is_copied() -> None:
    for name, end in (("k", 32), ("v", 17), ("k_scale", 32), ("rotations", 17)):
        to = State(entry(name), Host())
        to.copy_positions(filled(name), 17)
        assert not by_position(name, to.views()[0])[end:].any()


def test_what_is_recurrent_is_not_copied() -> None:
    to = State(entry("v", RECURRENT), Host())
    to.copy_positions(filled("v", RECURRENT), 10)
    assert not to.views()[0].any()


def test_a_new_state_is_zero_and_apart() -> None:
    one, other = filled("v"), State(entry("v"), Host())
    assert not other.views()[0].any()
    other.fill([np.ones((2, 64, 5), np.float32)])
    assert one.views()[0].max() > 1
