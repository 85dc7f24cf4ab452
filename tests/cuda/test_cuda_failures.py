"""Drivers that are missing, old, out of devices or lose one, in processes of their own.

A process opens its driver once, so each of these needs another.
"""

import os
import subprocess
import sys

import pytest
from emulated_driver import driver_environment, run_child

from handglass.errors import DeviceError
from handglass.runtime.devices.cuda.kind import DRIVER_VARIABLE, CudaDriver
from handglass.runtime.devices.device_info import DeviceInfo
from handglass.runtime.devices.device_select import DeviceRequest, choose
from handglass.runtime.devices.kinds import KINDS

pytestmark = pytest.mark.cuda

LISTING = """
from handglass.runtime.devices.cuda import cuda_devices, cuda_problem
print([each.name for each in cuda_devices()], cuda_problem())
"""

START = """
import numpy as np
from cuda_calls import CALLS, axpy, module, numbers
from emulated_driver import counters
from handglass.errors import DeviceError
from handglass.runtime.devices.cuda import cuda_statistics
from handglass.runtime.execution.placement import DeviceMemory

def message(act):
    try:
        act()
    except Exception as error:
        return str(error).splitlines()[0]
    raise SystemExit("no error")
"""

LOST = (
    START
    + """
kernel, x, y = module()["axpy"], CALLS.on_device(np.ones(8, np.float32)), CALLS.empty((8,))
def work():
    for _ in range(3):
        axpy(kernel, x, y, 1.0, 8)
    DeviceMemory("cuda", 2, 0).view(y)
try:
    work()
except DeviceError as error:
    print(error)
except RuntimeError as error:
    print("launch:", str(error).splitlines()[0])
print(message(lambda: CALLS.on_host(y)))
print(message(lambda: CALLS.empty((4,))))
print(message(lambda: axpy(kernel, x, y, 1.0, 8)))
print(cuda_statistics()["lost"])
del x, y, kernel
print("end")
"""
)

BEYOND = (
    START
    + """
kernel, x = module()["axpy"], CALLS.on_device(np.ones(64, np.float32))
axpy(kernel, x, x, 1.0, 1000)
print(message(lambda: CALLS.on_host(x)))
"""
)

FORK = (
    START
    + """
import os
tensor = CALLS.on_device(np.ones(4, np.float32))
if os.fork() == 0:
    print(message(lambda: CALLS.on_host(tensor)), flush=True)
    print(message(lambda: CALLS.empty((4,))), flush=True)
    del tensor
    os._exit(0)
assert os.wait()[1] == 0
print(CALLS.on_host(tensor).sum())
"""
)

MAPPED = (
    START
    + """
kernel, values = module()["axpy"], numbers(1000)
x, y = CALLS.on_device(values), CALLS.on_device(np.zeros(1000, np.float32))
print(cuda_statistics()["staged_bytes"], cuda_statistics()["mapped"])
axpy(kernel, x, y, 2.0, 1000)
CALLS.write(x, np.zeros(1000, np.float32))     # while the kernel is pending
np.testing.assert_allclose(CALLS.on_host(y), 2 * values)
assert not CALLS.on_host(x).any()
print(cuda_statistics()["staged_bytes"])
"""
)

OLD_PTX = (
    START
    + """
print(message(lambda: axpy(module()["axpy"], CALLS.empty((4,)), CALLS.empty((4,)), 1.0, 4)))
"""
)

SUM = (
    START
    + """
kernel, values = module()["axpy"], numbers(1000)
y = CALLS.on_device(np.zeros(1000, np.float32))
for _ in range(20):
    axpy(kernel, CALLS.on_device(values), y, 1.0, 1000)
np.testing.assert_allclose(CALLS.on_host(y), 20 * values, rtol=1e-4)
print("right")
"""
)


OWN = (
    """
import tvm_ffi
for name in ("device_api.cuda", "ffi.Module.load_from_bytes.cuda", "runtime.timer.cuda"):
    tvm_ffi.register_global_func(name, lambda *arguments: 1 / 0)
"""
    + SUM
)


def printed(code: str, **environment: str) -> list[str]:
    done = run_child(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"version": 11040}, "NVIDIA's driver is too old: it supports CUDA 11.4; update it"),
        ({"init": 100}, "NVIDIA's driver lists no device; if CUDA_VISIBLE_DEVICES is set"),
        ({"init": 34}, "libcuda.so.1 is the toolkit's stub for linking, not a driver"),
        ({"init": 803}, "does not start: cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)"),
    ],
)
def test_a_driver_that_cannot_be_used(settings: dict[str, int], words: str) -> None:
    (line,) = printed(LISTING, **driver_environment(**settings))
    assert line.startswith("[] ") and words in line
    with pytest.raises(DeviceError, match="no CUDA device was found .*: install NVIDIA's driver"):
        choose(DeviceRequest("cuda"), [], line)


def test_no_driver() -> None:
    (line,) = printed(LISTING, **{DRIVER_VARIABLE: "/nowhere/libcuda.so.1"})
    assert line.startswith("[] NVIDIA's driver cannot be opened: /nowhere/libcuda.so.1: ")


def test_a_setting_moves_a_device_to_the_front() -> None:
    both = driver_environment(chips="87,90")
    (line,) = printed(LISTING, **both, HANDGLASS_CUDA_DEVICE="SM_90")
    assert line == "['Emulated sm_90', 'Emulated sm_87'] None"
    done = run_child(LISTING, **both, HANDGLASS_CUDA_DEVICE="H200")
    assert "HANDGLASS_CUDA_DEVICE=H200: no such device; there is 0 = Emulated sm_87" in done.stderr
    assert "DeviceError: cuda: " in done.stderr


@pytest.mark.parametrize(
    ("environment", "newest"),
    [
        ({}, "the newest kernel is axpy (HANDGLASS_CUDA_BLOCKING=1 names the one that failed)"),
        ({"HANDGLASS_CUDA_BLOCKING": "1"}, "the newest kernel is axpy"),
    ],
)
def test_a_lost_device_is_told_once_and_the_process_ends(
    environment: dict[str, str], newest: str
) -> None:
    faulty = driver_environment(fail_kernel=2, fail_result=719)
    first, *later, lost, end = printed(LOST, **faulty, **environment)
    start = "launch: " if environment else ""
    words = "cuda: device lost: CUDA_ERROR_LAUNCH_FAILED (719) on cuda:0 (Emulated sm_87): waiting"
    assert first.startswith(start + words) and newest in first
    assert start or "run 'handglass doctor BUNDLE --device ...'" in first
    assert len(later) == 3 and all("nothing more can run on it" in line for line in later)
    assert (lost, end) == ("True", "end")


def test_a_kernel_that_reads_beyond_its_tensor() -> None:
    """Each tensor is an allocation of the driver, so that the emulator knows its bounds."""
    (line,) = printed(BEYOND, **driver_environment(), HANDGLASS_CUDA_BLOCK_MIB="0")
    assert line.startswith("cuda: device lost: CUDA_ERROR_ILLEGAL_ADDRESS (700) on cuda:0")


def test_a_forked_process_is_told_so() -> None:
    *words, total = printed(FORK, **driver_environment())
    assert len(words) == 2
    assert all("this process was forked from one that used CUDA" in line for line in words)
    assert total == "4.0"


def test_a_device_that_shares_the_hosts_memory_needs_no_copies() -> None:
    """The driver traps the host's accesses while work is pending; that write is staged."""
    before, after = printed(MAPPED, **driver_environment(integrated=1))
    assert (before, after) == ("0 True", "4000")
    before, after = printed(MAPPED, **driver_environment(integrated=1), HANDGLASS_CUDA_STAGING="1")
    assert before == "8000 False" and int(after) == 8000 + 3 * 4000


def test_ptx_that_is_newer_than_the_driver() -> None:
    (line,) = printed(OLD_PTX, **driver_environment(ptx=70, version=12020))
    assert "with a driver for CUDA 12.2: the module has sm_80, compute_80; compute_80: " in line
    assert "CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222); compile for this device, or update" in line


def test_tvms_own_runtime_is_replaced() -> None:
    """The wheel's is loaded where CUDA 13 is installed; it cannot read our modules."""
    assert printed(OWN, **driver_environment()) == ["right"]


def test_two_processes_at_once() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **driver_environment()}
    command = [sys.executable, "-c", SUM]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=300)[0] for process in started] == ["right\n"] * 2


@pytest.fixture
def orin() -> DeviceInfo:
    return DeviceInfo(
        kind="cuda",
        index=0,
        name="Orin",
        sort="integrated",
        uuid="",
        driver="",
        driver_key="",
        interface="",
        memory=0,
        unified_memory=True,
        abilities={"compute_capability": 87},
        report={},
    )


@pytest.mark.parametrize(
    ("images", "fits"), [(("sm_87",), True), (("sm_90", "compute_80"), True), (("sm_86",), False)]
)
def test_which_bundles_fit(images: tuple[str, ...], fits: bool, orin: DeviceInfo) -> None:
    assert (CudaDriver(KINDS["cuda"]).unfit(images, orin) == "") is fits
