"""Which part of a state tensor belongs to the first positions: compared one by one."""

import numpy as np
import pytest

from handglass.runtime.bundle.entries import POSITIONS, RECURRENT, StateTensor
from handglass.runtime.engine.state_layout import part_of, part_shape, put_part

CONTEXT = 40
# layout -> shape, and the index of one position in it
LAYOUTS = {
    "values": ((3, CONTEXT, 5), lambda p: (slice(None), p)),
    "keys": ((3, 3, 40, 16), lambda p: (slice(None), p // 16, slice(None), p % 16)),
    "scales": ((3, 3, 16), lambda p: (slice(None), p // 16, p % 16)),
    "rotations": ((CONTEXT, 6), lambda p: (p,)),
}


@pytest.mark.parametrize("count", [1, 15, 16, 17, 39, 40])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_part_holds_the_first_positions(name: str, count: int) -> None:
    shape, index = LAYOUTS[name]
    whole = np.random.default_rng(count).normal(size=shape).astype(np.float32)
    part = part_of(whole, part_shape(StateTensor(name, shape, "float32"), CONTEXT, count))
    other = np.full(shape, np.nan, np.float32)
    put_part(other, part)
    for position in range(count):
        assert np.array_equal(other[index(position)], whole[index(position)])
    each = 1 if shape[0] == CONTEXT or shape[1] == CONTEXT else 16
    assert np.isnan(other).sum() == whole.size - part.size, "more was written than the part"
    assert part.size == whole.size // (CONTEXT if each == 1 else 3) * -(-count // each)


@pytest.mark.parametrize(
    ("shape", "kind"), [((3, 7, 8), RECURRENT), ((3, 9, 8), POSITIONS), ((50,), POSITIONS)]
)
def test_other_layouts_are_kept_whole(shape: tuple[int, ...], kind: str) -> None:
    assert part_shape(StateTensor("x", shape, "int8", kind), CONTEXT, 3) == shape
    array = np.ones(shape, np.int8)
    target = np.zeros(shape, np.int8)
    target.flags.writeable = False  # as numpy before 2.1 sees the memory of a library
    put_part(target, array)
    assert target.all()
