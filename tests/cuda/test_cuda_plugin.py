"""The CUDA runtime on the emulated driver: launches, copies, devices, limits, memory, graphs."""

import ctypes
import gc
from typing import Any

import numpy as np
import pytest
from cuda_calls import (
    APPEND_KERNEL,
    AXPY_KERNEL,
    CALLS,
    CUBIN,
    FLOAT,
    GRID_AND_BLOCK,
    POINTER,
    REVERSED_KERNEL,
    THREADS,
    axpy,
    module,
    numbers,
)
from emulated_driver import counters
from plugin_calls import handle

from handglass.errors import DeviceError
from handglass.runtime.devices.cuda import cuda_devices, cuda_problem, cuda_statistics
from handglass.runtime.devices.device_select import DeviceRequest, choose
from handglass.runtime.execution.placement import DeviceMemory
from handglass.runtime.execution.tvm_runtime import import_tvm_ffi
from handglass.targets.codegen.cuda.module_bytes import Kernel, pack_module

pytestmark = pytest.mark.usefixtures("emulated")


def test_devices_are_listed_and_chosen() -> None:
    devices = cuda_devices()
    assert [device.name for device in devices] == ["Emulated sm_87", "Emulated sm_90"]
    assert cuda_problem() is None
    assert devices[0].abilities["compute_capability"] == 87
    assert devices[1].abilities["max_shared_memory_per_block_optin"] == 232448
    assert choose(DeviceRequest("cuda", "1"), devices) == devices[1]
    assert choose(DeviceRequest("cuda", "sm_90"), devices) == devices[1]
    with pytest.raises(DeviceError, match=r"cuda:7; available: cuda:0 \(Emulated sm_87\), cuda:1"):
        choose(DeviceRequest("cuda", "7"), devices)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000])
def test_axpy(n: int) -> None:
    x, y = numbers(n), numbers(n, 1)
    target = CALLS.on_device(y)
    axpy(module()["axpy"], CALLS.on_device(x), target, -1.5, n)
    np.testing.assert_allclose(CALLS.on_host(target), y - 1.5 * x, rtol=1e-6, atol=1e-6)


def test_nothing_to_do_is_not_launched() -> None:
    before = counters()["kernels"]
    axpy(module()["axpy"], CALLS.empty((0,)), CALLS.empty((0,)), 1.0, 0)
    CALLS.wait()
    assert counters()["kernels"] == before


@pytest.mark.parametrize("offset", [0, 96 << 10])
def test_dynamic_shared_memory_above_what_needs_no_asking(offset: int) -> None:
    x = numbers(THREADS)
    tensor = CALLS.on_device(x)
    kernel = module([REVERSED_KERNEL])["reversed"]
    kernel(handle(tensor), offset, THREADS, offset + 4 * THREADS)
    np.testing.assert_array_equal(CALLS.on_host(tensor), x[::-1])


def test_a_module_runs_on_every_device_and_copies_go_between_them() -> None:
    kernel = module()["axpy"]
    x, y = numbers(100), numbers(100, 1)
    second = CALLS.on_device(y, index=1)
    select = CALLS.function("__tvm_set_device")
    first = CALLS.on_device(x)
    copied = CALLS.empty((100,), index=1)
    CALLS.function("runtime.TVMTensorCopyFromTo")(first, copied)
    np.testing.assert_array_equal(CALLS.on_host(copied), x)
    select(2, 1)
    axpy(kernel, copied, second, 2.0, 100)
    select(2, 0)
    axpy(kernel, first, first, 1.0, 100)
    np.testing.assert_allclose(CALLS.on_host(second), y + 2 * x, atol=1e-5)
    np.testing.assert_allclose(CALLS.on_host(first), 2 * x)
    assert cuda_statistics(1)["live_buffers"] == 2
    del second, copied
    assert cuda_statistics(1)["live_bytes"] == 0


def test_two_modules_have_kernels_of_the_same_name() -> None:
    one, other = module()["axpy"], module()["axpy"]
    x, y = CALLS.on_device(np.ones(9, np.float32)), CALLS.on_device(np.zeros(9, np.float32))
    axpy(one, x, y, 1.0, 9)
    axpy(other, x, y, 2.0, 9)
    assert CALLS.on_host(y).tolist() == [3.0] * 9


def test_the_host_array_may_be_changed_after_a_write() -> None:
    """The driver reads it later; nine pieces of pinned memory wrap around its four slots."""
    x = numbers((9 << 20) // 4)
    expected = x.copy()
    tensor = CALLS.on_device(x)
    x[:] = 0
    np.testing.assert_array_equal(CALLS.on_host(tensor), expected)


def test_writes_do_not_wait() -> None:
    tensor = CALLS.empty((1000,))
    before = cuda_statistics()["waits"]
    placement = DeviceMemory("cuda", 2, 0)
    for seed in range(5):
        placement.write(tensor, numbers(1000, seed))
    assert cuda_statistics()["waits"] == before
    np.testing.assert_array_equal(placement.view(tensor), numbers(1000, 4))


def test_views_and_copies_within_a_device() -> None:
    x = np.arange(256, dtype=np.float32)
    tensor, ffi = CALLS.on_device(x), import_tvm_ffi()
    view = CALLS.function("runtime.TVMTensorCreateView")(
        tensor, ffi.Shape((100,)), ffi.dtype("float32"), 4 * 37
    )
    np.testing.assert_array_equal(CALLS.on_host(view), x[37:137])
    other = CALLS.empty((100,))
    CALLS.function("runtime.TVMTensorCopyFromTo")(view, other)
    np.testing.assert_array_equal(CALLS.on_host(other), x[37:137])
    overlapping = CALLS.function("runtime.TVMTensorCreateView")(
        tensor, ffi.Shape((100,)), ffi.dtype("float32"), 4 * 38
    )
    with pytest.raises(RuntimeError, match="cuda: copy of 400 bytes .* overlap"):
        CALLS.function("runtime.TVMTensorCopyFromTo")(view, overlapping)


def test_nothing_is_left() -> None:
    gc.collect()
    before, live = counters(), cuda_statistics()["live_bytes"]
    kernel = module()["axpy"]
    y = CALLS.on_device(np.zeros(1000, np.float32))
    total = np.zeros(1000)
    for seed in range(200):
        x = numbers(1000, seed)
        axpy(kernel, CALLS.on_device(x), y, 0.5, 1000)  # x is freed before the kernel runs
        total += 0.5 * x
    np.testing.assert_allclose(CALLS.on_host(y), total, rtol=1e-4, atol=1e-4)
    del kernel, y
    gc.collect()
    after = counters()
    assert after["modules"] == before["modules"], "the code was unloaded"
    assert cuda_statistics()["live_bytes"] == live
    assert after["allocations"] - before["allocations"] <= 1
    assert after["pinned"] == before["pinned"]


def test_large_tensors_are_kept_for_a_while_and_then_returned() -> None:
    before = counters()
    for seed in range(5):
        CALLS.on_device(numbers(5 << 20, seed))
    assert counters()["allocations"] - before["allocations"] <= 1
    for _ in range(100):
        CALLS.wait()
    assert cuda_statistics()["blocks"] <= 1
    assert counters()["used"] <= before["used"]


def test_out_of_memory_is_an_error_and_passes() -> None:
    placement = DeviceMemory("cuda", 2, 0)
    with pytest.raises(DeviceError, match=r"cuda: out of memory: .*; close other programs"):
        placement.zeros((1 << 40,), "float32")
    held = [CALLS.empty((24 << 20,)) for _ in range(4)]
    with pytest.raises(DeviceError, match=r"allocation of \d+ bytes on cuda:0 .* bytes are free"):
        placement.zeros((40 << 20,), "float32")
    del held
    # what was held goes back to the driver to make room
    assert CALLS.on_host(CALLS.empty((120 << 20,), "int8")).shape == (120 << 20,)


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        ((4, 2048, 0), "2048 threads along x, not from 0 to 1024"),
        ((4, -1, 0), "-1 threads along x, not from 0 to 1024"),
        ((1 << 32, 64, 0), "4294967296 blocks along x, not from 0 to 2147483647"),
        ((1, 64, 1 << 20), "1048576 bytes of shared memory, not from 0 to 166912"),
    ],
)
def test_limits_are_checked_before_a_launch(launch: tuple[int, int, int], words: str) -> None:
    tags = (*GRID_AND_BLOCK, "tirx.use_dyn_shared_memory")
    kernel = module([Kernel("reversed", REVERSED_KERNEL.arguments, tags)])["reversed"]
    with pytest.raises(RuntimeError, match=f"cuda: kernel reversed: {words} as on cuda:0"):
        kernel(handle(CALLS.empty((64,))), 0, *launch)


def test_threads_of_all_axes_count() -> None:
    tags = ("threadIdx.x", "threadIdx.y", "threadIdx.z")
    kernel = module([Kernel("axpy", AXPY_KERNEL.arguments, tags)])["axpy"]
    tensor = handle(CALLS.empty((64,)))
    with pytest.raises(RuntimeError, match=r"kernel axpy: 4096 threads per block, not from 0"):
        kernel(tensor, tensor, 1.0, 1, 64, 32, 2)


def test_a_wrong_number_of_arguments() -> None:
    with pytest.raises(RuntimeError, match="cuda: kernel axpy: called with 2 arguments, not 6"):
        module()["axpy"](1, 2)


@pytest.mark.parametrize(
    ("kernel", "images", "words"),
    [
        (Kernel("k", (POINTER,), ("vthread",)), {}, "kernel k: its launch needs vthread, which"),
        (Kernel("k", ((2, 16, 1),), ()), {}, "kernel k: an argument of DLPack type 2 with 16 bits"),
        (Kernel("k", ((2, 32, 4),), ()), {}, "32 bits and 4 lanes"),
        (Kernel("k", (POINTER,), (), (0,)), {}, "argument 0 from a cell, which is no integer"),
        (Kernel("k", (FLOAT,), (), (0,)), {}, "argument 0 from a cell, which is no integer"),
        (Kernel("k", (FLOAT,), (), (1,)), {}, "no integer of its 1 arguments"),
        (AXPY_KERNEL, {"sm_x7": CUBIN}, 'damaged module: an image for "sm_x7"'),
        (AXPY_KERNEL, {"gfx90": CUBIN}, 'damaged module: an image for "gfx90"'),
        (AXPY_KERNEL, {"compute_80": b".version"}, "the image for compute_80 is incomplete"),
    ],
)
def test_modules_that_cannot_be(kernel: Kernel, images: dict[str, bytes], words: str) -> None:
    with pytest.raises(RuntimeError, match=f"cuda: .*{words}"):
        module([kernel], images or {"sm_80": CUBIN})


def test_damaged_modules_are_refused() -> None:
    whole = pack_module([APPEND_KERNEL], {"sm_87": CUBIN})
    for cut in range(len(whole)):
        with pytest.raises(RuntimeError, match="cuda: damaged module"):
            CALLS.load(whole[:cut])
    with pytest.raises(RuntimeError, match="bytes after its end"):
        CALLS.load(whole + b"\0")


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (("sm_87", "sm_86", "sm_90"), "sm_87: CUDA_ERROR_NO_BINARY_FOR_GPU"),
        (("sm_86", "sm_80", "sm_90", "compute_90"), "compute_90; compile for this device"),
    ],
)
def test_no_image_fits(images: tuple[str, ...], words: str) -> None:
    """sm_86 and sm_80 do not run on 8.7, which is a Jetson."""
    kernel = module(images=dict.fromkeys(images, CUBIN + b"\0"))["axpy"]
    tensor = CALLS.empty((4,))
    start = r"cuda: no code for cuda:0 .* sm_87 .* for CUDA 13.0: the module has sm_"
    with pytest.raises(RuntimeError, match=f"{start}.*{words}") as error:
        axpy(kernel, tensor, tensor, 1.0, 4)
    assert str(error.value).count("CUDA_ERROR") == len(set(images) & {"sm_87"})


def test_a_kernel_that_the_code_lacks() -> None:
    kernel = module([Kernel("other", (), ("threadIdx.x",))])["other"]
    with pytest.raises(RuntimeError, match=r"cuda: cuda:0 .*: kernel other: CUDA_ERROR_NOT_FOUND"):
        kernel(1)


def test_stamps_and_timer() -> None:
    kernel, tensor = module()["axpy"], CALLS.on_device(np.zeros(64, np.float32))
    stamp, stamps = CALLS.function("handglass.cuda.stamp"), CALLS.function("handglass.cuda.stamps")
    for expected in range(1, 5):
        assert stamp(0) == expected
        axpy(kernel, tensor, tensor, 1.0, 64)
    found = list(stamps(0))
    assert found[0] == 0 and found == sorted(found) and found[-1] > 0
    assert list(stamps(0)) == []
    assert CALLS.function("runtime.timer.cuda")(CALLS.device()) is not None


def test_attributes_for_tvm() -> None:
    attribute = CALLS.function("runtime.GetDeviceAttr")
    assert [attribute(2, 0, kind) for kind in (0, 1, 2, 3, 4)] == [1, 1024, 32, 49152, "8.7"]
    assert attribute(2, 9, 0) == 0


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="no device cuda:99; this machine has 2"):
        cuda_statistics(99)


class TestStep:
    """Calls that are repeated: y += (a + 2) x, with another `a` and other values each time."""

    def work(self, kernel: Any, x: Any, y: Any, a: float, n: int = 64) -> None:
        between = CALLS.empty((n,))
        axpy(kernel, x, y, a, n)
        axpy(kernel, x, between, 1.0, n)
        del between
        axpy(kernel, x, y, 2.0, n)

    def test_it_is_one_launch_whose_arguments_change(self) -> None:
        kernel, step = module()["axpy"], CALLS.function("handglass.cuda.step")(0)
        x, y = CALLS.empty((64,)), CALLS.on_device(np.zeros(64, np.float32))
        expected = np.zeros(64, np.float32)
        before, counted = cuda_statistics(), counters()
        for seed in range(5):
            values, n = numbers(64, seed), 64 if seed < 4 else 7
            CALLS.write(x, values)
            step(True)
            self.work(kernel, x, y, float(seed), n)
            step(False)
            expected[:n] += (seed + 2) * values[:n]
        np.testing.assert_allclose(CALLS.on_host(y), expected, rtol=1e-4, atol=1e-4)
        after = cuda_statistics()
        assert after["graph_launches"] - before["graph_launches"] == 4, "all but the first"
        # of two graphs: `a` in the first one, and then in the other the elements of three kernels
        assert after["graph_updates"] - before["graph_updates"] == 1 + 3
        assert counters()["kernels"] - counted["kernels"] == 15
        del step
        assert counters()["graphs"] == counted["graphs"]

    def test_other_kernels_are_another_graph(self) -> None:
        kernel, step = module()["axpy"], CALLS.function("handglass.cuda.step")(0)
        x, y = CALLS.on_device(np.ones(4, np.float32)), CALLS.on_device(np.zeros(4, np.float32))
        before = cuda_statistics()["graph_launches"]
        for count in (1, 1, 2, 2, 2, 1, 0, 1):
            step(True)
            for _ in range(count):
                axpy(kernel, x, y, 1.0, 4)
            step(False)
        assert CALLS.on_host(y).tolist() == [10.0] * 4
        assert cuda_statistics()["graph_launches"] - before == 1 + 2 + 1

    @pytest.mark.parametrize("act", ["read", "write", "copy", "wait", "stamp"])
    def test_what_is_no_kernel_comes_in_order(self, act: str) -> None:
        kernel, step = module()["axpy"], CALLS.function("handglass.cuda.step")(0)
        x, y = CALLS.on_device(np.ones(4, np.float32)), CALLS.on_device(np.zeros(4, np.float32))
        before = cuda_statistics()["graph_launches"]
        for n in range(3):
            step(True)
            axpy(kernel, x, y, 1.0, 4)
            if act == "read":
                assert CALLS.on_host(y)[0] == 2 * n + 1
            elif act == "write":
                CALLS.write(y, np.full(4, 2 * n + 1, np.float32))
            elif act == "copy":
                CALLS.function("runtime.TVMTensorCopyFromTo")(y, CALLS.empty((4,)))
            elif act == "wait":
                CALLS.wait()
            else:
                CALLS.function("handglass.cuda.stamp")(0)
            axpy(kernel, x, y, 1.0, 4)
            step(False)
        assert CALLS.on_host(y).tolist() == [6.0] * 4
        assert cuda_statistics()["graph_launches"] == before
        CALLS.function("handglass.cuda.stamps")(0)

    def test_the_code_of_a_graph_lives_as_long_as_it(self) -> None:
        gc.collect()
        counted = counters()["modules"]
        step = CALLS.function("handglass.cuda.step")(0)
        tensor = CALLS.on_device(np.ones(4, np.float32))
        kernel = module()["axpy"]
        for _ in range(3):
            step(True)
            axpy(kernel, tensor, tensor, 0.0, 4)
            step(False)
        del kernel
        gc.collect()
        assert counters()["modules"] == counted + 1
        other = module()["axpy"]
        for _ in range(2):  # of another module: the first one is no longer needed
            step(True)
            axpy(other, tensor, tensor, 0.0, 4)
            step(False)
        gc.collect()
        assert counters()["modules"] == counted + 1
        del step, other
        gc.collect()
        assert counters()["modules"] == counted

    def test_two_steps_at_once(self) -> None:
        kernel, make = module()["axpy"], CALLS.function("handglass.cuda.step")
        one, other = make(0), make(0)
        x, y = CALLS.on_device(np.ones(4, np.float32)), CALLS.on_device(np.zeros(4, np.float32))
        for _ in range(3):
            one(True)
            axpy(kernel, x, y, 1.0, 4)
            other(True)
            axpy(kernel, x, y, 1.0, 4)
            other(False)
            one(False)
        assert CALLS.on_host(y).tolist() == [6.0] * 4


def test_a_pointer_of_another_library_is_passed_on() -> None:
    """Unlike Vulkan's, CUDA's addresses are real; the emulator finds one that is not."""
    kernel = module([Kernel("axpy", (POINTER, POINTER, FLOAT, (0, 32, 1)), GRID_AND_BLOCK)])["axpy"]
    tensor = CALLS.on_device(np.ones(4, np.float32))
    kernel(handle(tensor), ctypes.c_void_p(handle(tensor).value), 1.0, 4, 1, 64)
    assert CALLS.on_host(tensor).tolist() == [2.0] * 4
