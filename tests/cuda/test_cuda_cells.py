"""Numbers of a repeated call in device memory: a graph is launched again unchanged."""

import gc
from typing import Any

import numpy as np
import pytest
from cuda_calls import APPEND_KERNEL, AXPY_KERNEL, CALLS, append, axpy, module, numbers, ptx
from cuda_calls import AXPY as AXPY_PTX
from emulated_driver import counters, driver_environment, run_child

from handglass.runtime.devices.cuda import cuda_statistics
from handglass.targets.codegen.cuda.module_bytes import FORMAT, pack_module
from handglass.targets.codegen.serialized import string, u64

pytestmark = pytest.mark.usefixtures("emulated")

LENGTH, TOKENS = 64, 9


class Talk:
    """Steps of a few kernels over an array."""

    def __init__(self) -> None:
        self.kernel = module([APPEND_KERNEL])["append"]
        self.step = CALLS.function("handglass.cuda.step")(0)
        self.x = CALLS.on_device(numbers(LENGTH))
        self.y = CALLS.on_device(np.zeros(LENGTH, np.float32))
        self.expected = np.zeros(LENGTH, np.float32)

    def token(self, pos: int, n: int = 2, groups: int = 1) -> None:
        """Adds `n` elements at `pos`, and one more than that at 40."""
        self.step(True)
        between = CALLS.empty((LENGTH,))  # freed before the kernels start
        append(self.kernel, self.x, between, LENGTH, 0)
        del between
        append(self.kernel, self.x, self.y, n, pos, groups)
        append(self.kernel, self.x, self.y, n + 1, 40)
        self.step(False)
        self.expected[pos : pos + n] += numbers(LENGTH)[:n]
        self.expected[40 : 41 + n] += numbers(LENGTH)[: n + 1]

    def check(self) -> None:
        np.testing.assert_allclose(CALLS.on_host(self.y), self.expected, rtol=1e-5)


@pytest.fixture
def talk() -> Talk:
    return Talk()


def counted() -> dict[str, int]:
    """What the driver and the plug-in count of graphs."""
    own = cuda_statistics()
    return {**counters(), "cell_writes": own["cell_writes"], "live_bytes": own["live_bytes"]}


def since(before: dict[str, int], *names: str) -> list[int]:
    after = counted()
    return [after[name] - before[name] for name in names]


WORK = ("graph_launches", "node_updates", "cell_writes", "uploads")


def test_another_position_is_one_copy_and_changes_no_kernel(talk: Talk) -> None:
    talk.token(0)  # the first one is recorded
    before = counted()
    for pos in range(1, TOKENS):  # none of them has run when the next one is started
        talk.token(pos, n=1 + pos % 3)
    assert since(before, *WORK) == [TOKENS - 1, 0, TOKENS - 1, TOKENS - 1]
    talk.check()


def test_the_same_numbers_need_no_copy(talk: Talk) -> None:
    for _ in range(2):
        talk.token(5)
    before = counted()
    for _ in range(3):
        talk.token(5)
    assert since(before, *WORK) == [3, 0, 0, 0]
    talk.token(6)
    assert since(before, *WORK) == [4, 0, 1, 1]
    talk.check()


def test_two_places_of_a_result_are_two_graphs(talk: Talk) -> None:
    """TVM's virtual machine holds a result until it returns the next one."""
    places, before = [talk.x, CALLS.on_device(numbers(LENGTH))], counted()
    for pos in range(TOKENS):
        talk.x = places[pos % 2]
        talk.token(pos)
    assert since(before, "graph_launches", "graphs", "node_updates") == [TOKENS - 1, 2, 0]
    talk.check()


def test_another_grid_or_address_changes_its_kernel_alone(talk: Talk) -> None:
    """In that of two graphs which was launched longest ago."""
    for pos in range(3):
        talk.token(pos)
    talk.token(3, groups=2)
    before = counted()
    talk.token(4, groups=3)
    assert since(before, *WORK) == [1, 1, 1, 1]
    talk.token(5, groups=2)
    assert since(before, *WORK) == [2, 1, 2, 2], "the other graph has that"
    talk.x = CALLS.on_device(numbers(LENGTH))  # which is an upload
    talk.token(6, groups=3)
    assert since(before, *WORK) == [3, 4, 3, 4]
    talk.token(7, groups=3)
    assert since(before, *WORK) == [4, 4, 4, 5]
    talk.check()


def test_without_a_graph_numbers_are_passed(talk: Talk) -> None:
    before = counted()
    for pos in range(3):
        append(talk.kernel, talk.x, talk.y, 4, pos)
        talk.expected[pos : pos + 4] += numbers(LENGTH)[:4]
    assert since(before, *WORK) == [0, 0, 0, 0]
    talk.check()


def test_a_step_that_something_interrupts(talk: Talk) -> None:
    """Its kernels are started one by one, with their own numbers; the graph comes back after it."""
    for pos in range(3):
        talk.token(pos)
    before = counted()
    talk.step(True)
    append(talk.kernel, talk.x, talk.y, 7, 10)
    CALLS.wait()
    append(talk.kernel, talk.x, talk.y, 1, 30)
    append(talk.kernel, talk.x, talk.y, 0, 0)
    talk.step(False)
    talk.expected[10:17] += numbers(LENGTH)[:7]
    talk.expected[30:31] += numbers(LENGTH)[:1]
    talk.token(3)
    assert since(before, *WORK) == [1, 0, 1, 1]
    talk.check()


def test_cells_are_freed_with_their_graph() -> None:
    gc.collect()
    before = counted()
    talk = Talk()
    for pos in range(3):
        talk.token(pos)
    (with_cells,) = since(before, "live_bytes")
    talk.check()
    tensors = (talk.x, talk.y)
    del talk
    gc.collect()
    (without,) = since(before, "live_bytes")
    assert 0 < with_cells - without <= 256, "six numbers, and the alignment of tensors"
    del tensors
    assert since(before, "live_bytes", "graphs") == [0, 0]


def test_a_module_of_the_format_without_cells() -> None:
    new = pack_module([AXPY_KERNEL], {"compute_80": ptx(AXPY_PTX)})
    last = string(AXPY_KERNEL.tags[-1])
    old = new.replace(FORMAT.encode(), b"handglass.cuda.1").replace(last + u64(0), last)
    assert len(old) == len(new) - 8
    x, y = CALLS.on_device(numbers(9)), CALLS.on_device(np.zeros(9, np.float32))
    axpy(CALLS.load(old)["axpy"], x, y, 2.0, 9)
    np.testing.assert_allclose(CALLS.on_host(y), 2 * numbers(9))


CHILD = """
from test_cuda_cells import Talk
talk = Talk()
for pos in range(6):
    talk.token(pos)
talk.check()
print("right")
"""
FIRST = 3
"""The copy of the first graph's numbers: x and y come before it."""


def run(**settings: Any) -> tuple[str, str]:
    done = run_child(CHILD, **driver_environment(**settings))
    return done.stdout, done.stderr


@pytest.mark.parametrize("lost", [FIRST, FIRST + 3])
def test_a_lost_copy_is_found(lost: int) -> None:
    """That the tests above would notice it."""
    assert "Mismatched elements" in run(lose_upload=lost)[1]


def test_where_the_host_shares_the_memory() -> None:
    """The driver traps the host's accesses while work is pending."""
    assert run(integrated=1)[0] == "right\n"
