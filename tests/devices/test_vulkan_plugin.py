"""The Vulkan runtime on a device: launches, copies, views, limits, errors, and leaks."""

import ctypes
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import vulkan_calls as calls
from vulkan_shaders import axpy, pack_module

from handglass.errors import DeviceError
from handglass.runtime.devices.vulkan import vulkan_devices, vulkan_statistics
from handglass.runtime.execution.tvm_runtime import import_tvm_ffi

pytestmark = pytest.mark.vulkan
CALLS = calls.__file__
LAYER = {"VK_INSTANCE_LAYERS": "VK_LAYER_KHRONOS_validation"}
STAGING = {"HANDGLASS_VULKAN_STAGING": "1"}
POOLS = {"HANDGLASS_VULKAN_PUSH_DESCRIPTOR": "0"}


def child(code: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("uniform", [False, True])
def test_axpy(n: int, uniform: bool) -> None:
    module = calls.load(axpy(uniform=uniform, extra_scalars=3))
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((2, n)).astype(np.float32)
    target = calls.on_device(y)
    calls.call(module["axpy"], calls.on_device(x), target, -1.5, n, 7, 8, 9)
    np.testing.assert_allclose(calls.on_host(target), y - 1.5 * x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("switches", [{}, STAGING, POOLS, {**STAGING, **POOLS}], ids=str)
def test_nothing_is_left_and_the_validation_layer_is_silent(switches: dict[str, str]) -> None:
    done = child([CALLS, "2000"], **LAYER, **switches)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout  # the validation layer prints to it
    found = json.loads(lines[0])
    assert found["launches"] == 2000
    assert found["live_buffers"] <= 2  # y, and the last x until its command has completed
    assert found["blocks"] == 1
    assert found["host_chunks"] <= 24
    assert found["pipelines"] == 2
    assert found["submits"] >= 2000 // 64


def test_views_with_byte_offsets() -> None:
    x = np.arange(256, dtype=np.float32)
    tensor = calls.on_device(x)
    ffi = import_tvm_ffi()
    view = calls.function("runtime.TVMTensorCreateView")(
        tensor, ffi.Shape((100,)), ffi.dtype("float32"), 4 * 37
    )
    np.testing.assert_array_equal(calls.on_host(view), x[37:137])
    module = calls.load(axpy())
    y = calls.on_device(np.zeros(256, np.float32))
    step = vulkan_devices()[0].report["limits"]["min_storage_buffer_offset_alignment"]
    offset = max(step, 64)
    module["axpy"](calls.handle(tensor, offset), calls.handle(y), 1.0, 64, 1, 64)
    np.testing.assert_array_equal(calls.on_host(y)[:64], x[offset // 4 :][:64])


def test_an_offset_that_cannot_be_bound_is_refused() -> None:
    module, tensor = calls.load(axpy()), calls.on_device(np.zeros(256, np.float32))
    if vulkan_devices()[0].report["limits"]["min_storage_buffer_offset_alignment"] <= 4:
        pytest.skip("this device binds any word")
    with pytest.raises(RuntimeError, match=r"kernel axpy: argument 0 .*byte 4 "):
        module["axpy"](calls.handle(tensor, 4), calls.handle(tensor), 1.0, 64, 1, 64)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (axpy("wide", local=(4096, 1, 1)), r"kernel wide: workgroup size: 4096, above the \d+"),
        (axpy("shared", shared_words=1 << 20), r"kernel shared: bytes of shared memory: 4194304"),
        (axpy("pushed", extra_scalars=80), r"kernel pushed: bytes of scalars: 656, above"),
        (axpy("matrix", capabilities=(6022,)), r"kernel matrix needs the capability Cooperative"),
        (axpy("future", version=0x00010900), r"kernel future is SPIR-V 1\.9"),
        (dataclasses.replace(axpy("one"), name="two"), r"kernel two: .* no compute entry point"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_limits_are_checked_before_a_launch(kernel: calls.Kernel, words: str) -> None:
    if "matrix" in words and vulkan_devices()[0].abilities["supports_cooperative_matrix"]:
        pytest.skip("this device has them")
    tensor = calls.on_device(np.zeros(64, np.float32))
    extra = [0] * (len(kernel.arguments) - 4)
    with pytest.raises(RuntimeError, match=f"vulkan: {words}"):
        calls.call(calls.load(kernel)[kernel.name], tensor, tensor, 1.0, 64, *extra)


def test_buffer_range_and_grid() -> None:
    limits = vulkan_devices()[0].report["limits"]
    kernel = calls.load(axpy())["axpy"]
    small = calls.empty((64,))
    with pytest.raises(RuntimeError, match=r"blockIdx\.x"):
        kernel(calls.handle(small), calls.handle(small), 1.0, 64, 1 << 32, 64)
    if limits["max_storage_buffer_range"] < min(limits["max_allocation"], 1 << 30):
        large = calls.empty((limits["max_storage_buffer_range"] // 4 + 1,))
        with pytest.raises(RuntimeError, match=r"argument 1 .* \(maxStorageBufferRange\)"):
            calls.call(kernel, small, large, 1.0, 64)


def test_out_of_memory_is_an_error_and_passes() -> None:
    with pytest.raises(RuntimeError, match=r"vulkan: out of memory: allocation of \d+ bytes"):
        calls.empty((1 << 42,))
    assert calls.on_host(calls.on_device(np.ones(3, np.float32))).sum() == 3


def test_foreign_pointers_and_damaged_modules_are_refused() -> None:
    kernel, tensor = calls.load(axpy())["axpy"], calls.empty((64,))
    with pytest.raises(RuntimeError, match="argument 0 .*vulkan:0"):
        kernel(ctypes.c_void_p(4096), calls.handle(tensor), 1.0, 64, 1, 64)
    with pytest.raises(RuntimeError, match="2 arguments.* 6"):
        kernel(calls.handle(tensor), calls.handle(tensor))
    whole = pack_module(axpy())
    loader = calls.function("ffi.Module.load_from_bytes.vulkan")
    for cut in range(0, len(whole) - 1, 97):
        with pytest.raises(RuntimeError, match="vulkan: "):
            loader(whole[:cut])


def test_stamps_and_timer() -> None:
    kernel = calls.load(axpy())["axpy"]
    x, y = calls.empty((64,)), calls.empty((64,))
    stamp, stamps = (
        calls.function("handglass.vulkan.stamp"),
        calls.function("handglass.vulkan.stamps"),
    )
    for expected in range(1, 5):
        assert stamp(0) == expected
        calls.call(kernel, x, y, 1.0, 64)
    found = list(stamps(0))
    assert found[0] == 0 and found == sorted(found)
    assert list(stamps(0)) == []
    assert calls.function("runtime.timer.vulkan")(calls.device()) is not None


def test_statistics_of_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="vulkan:99"):
        vulkan_statistics(99)


FORK = """
import os, numpy as np, vulkan_calls as calls
from handglass.runtime.devices.vulkan import vulkan_devices
tensor = calls.on_device(np.ones(4, np.float32))
if os.fork() == 0:
    for act in (lambda: calls.on_host(tensor), vulkan_devices):
        try:
            act()
        except Exception as error:
            assert "was forked from one that used Vulkan" in str(error), error
        else:
            raise SystemExit("the child used its parent's device")
    del tensor
    raise SystemExit(0)
assert os.wait()[1] == 0
assert calls.on_host(tensor).sum() == 4
"""

LOST = """
import dataclasses, numpy as np, vulkan_calls as calls
from vulkan_shaders import axpy
tags = ("blockIdx.x", "blockIdx.y", "threadIdx.x")
kernel = calls.load(dataclasses.replace(axpy("slow", repeat=True), tags=tags))["slow"]
x, y = calls.on_device(np.ones(64, np.float32)), calls.on_device(np.ones(64, np.float32))
kernel(calls.handle(x), calls.handle(y), 1.0, 64, 65535, 1000, 64)
for act in (lambda: calls.on_host(y), lambda: calls.empty((4,))):
    try:
        act()
    except RuntimeError as error:
        assert str(error).startswith("vulkan: device lost: ") and "slow" in str(error), error
    else:
        raise SystemExit("a lost device answered")
print("end")
"""


def test_a_forked_process_is_told_so() -> None:
    done = child(["-W", "ignore", "-c", FORK])
    assert done.returncode == 0, done.stderr


def test_a_device_that_does_not_answer_is_lost_and_the_process_ends() -> None:
    done = child(["-c", LOST], HANDGLASS_VULKAN_TIMEOUT="0.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "end\n"


def new_cache(folder: Path) -> Path:
    """In a process that loads only the plug-in."""
    library = Path(os.environ["XDG_CACHE_HOME"]) / "handglass" / "vulkan"
    mine = folder / "handglass" / "vulkan"
    mine.mkdir(parents=True)
    for built in library.glob("*/built.json"):
        (mine / built.parent.name).symlink_to(built.parent.resolve())
    return mine


def test_a_damaged_pipeline_cache_is_ignored(tmp_path: Path) -> None:
    mine = new_cache(tmp_path)
    for spoil in (lambda raw: raw, lambda raw: raw[:-1], lambda raw: b"", lambda raw: raw[::-1]):
        done = child([CALLS, "4"], XDG_CACHE_HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        (file,) = (mine / "pipelines").iterdir()
        file.write_bytes(spoil(file.read_bytes()))


def test_a_pipeline_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    """A file in place of the folder; unlike permissions, this also stops root."""
    file = new_cache(tmp_path) / "pipelines"
    file.write_text("in the way")
    done = child([CALLS, "4"], XDG_CACHE_HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert file.read_text() == "in the way"
