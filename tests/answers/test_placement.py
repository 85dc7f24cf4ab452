"""Tensors in device memory: the copying placement, tested on host memory."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written_bundle import FILES, MANIFEST

from handglass.runtime.bundle.entries import TensorEntry
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.bundle.tensors import TensorFile
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.engine.parameters import place_params
from handglass.runtime.execution.placement import DeviceMemory, Host
from handglass.runtime.execution.tvm_runtime import installed_runtime, start_runtime
from handglass.runtime.system.shared_library import SharedLibrary

DTYPES = ("float32", "float16", "int8", "uint8", "uint16", "int32", "uint32", "int64")


@pytest.fixture(scope="module", autouse=True)
def _runtime() -> None:
    runtime = installed_runtime()
    if runtime is None:
        pytest.skip("TVM's runtime is not installed")
    start_runtime(lambda: SharedLibrary(runtime))


@pytest.fixture()
def gpu() -> DeviceMemory:
    """Copies as for a GPU, but in CPU memory, through the same TVM functions."""
    return DeviceMemory("cpu", 1, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (3, 5), (0, 4), (2, 1, 7)])
def test_what_goes_up_comes_down(gpu: DeviceMemory, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    tensor = gpu.put(array)
    array_before = array.copy()
    array[...] = 1  # the tensor has its own memory
    found = gpu.view(tensor)
    assert (found.dtype, found.shape) == (array.dtype, shape)
    assert np.array_equal(found, array_before)


def test_a_view_of_a_strided_array_is_its_values(gpu: DeviceMemory) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::3]
    assert np.array_equal(gpu.view(gpu.put(array)), array)


@pytest.mark.parametrize("kind", ["host", "gpu"])
def test_zeros_are_zero_and_can_be_written(kind: str, gpu: DeviceMemory) -> None:
    place: Any = Host() if kind == "host" else gpu
    tensor = place.zeros((3, 4096), "float16")
    assert not place.view(tensor).any()
    values = np.random.default_rng(1).normal(size=(3, 4096)).astype(np.float16)
    place.write(tensor, values)
    place.wait()
    assert np.array_equal(place.view(tensor), values)


def test_the_virtual_machine_is_told_of_both_memories() -> None:
    assert Host.machine_devices == (1, 0, 1)
    assert DeviceMemory("vulkan", 7, 2).machine_devices == (7, 2, 1, 1, 0, 1)


def test_only_a_gpu_has_memory_of_its_own(gpu: DeviceMemory) -> None:
    assert Host().peak_bytes() is None
    assert gpu.peak_bytes() is None, "nobody counts here"


def test_parameters_that_were_copied_are_forgotten_and_whole(
    tmp_path: Path, gpu: DeviceMemory
) -> None:
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        "a": random.normal(size=(300, 100)).astype(np.float32),
        "b": random.integers(-100, 100, (7,)).astype(np.int8),
        "c": random.normal(size=(128, 64)).astype(np.float16),
    }
    entries = tuple(TensorEntry(n, a.shape, a.dtype.name) for n, a in arrays.items())
    with BundleWriter(tmp_path / "b") as writer:
        for name in ("lib.so", "tokenizer.model"):
            writer.add_file(name, FILES[name])
        specs = [(e.name, e.shape, e.dtype) for e in entries]
        with TensorWriter(writer.folder / "params-00001.safetensors", specs) as file:
            for name, array in arrays.items():
                file.write(name, array)
        writer.add_file("params-00001.safetensors")
        bundle = writer.finish(dataclasses.replace(MANIFEST, params=entries))
    for place in (gpu, Host()):
        placed = [place.view(tensor) for tensor in place_params(bundle, place)]
        for found, (name, expected) in zip(placed, arrays.items(), strict=True):
            assert np.array_equal(found, expected), name
    opened = TensorFile.open(tmp_path / "b" / "params-00001.safetensors")
    for name, expected in arrays.items():
        assert np.array_equal(opened.array(name), expected)
        opened.drop_cached(name)
        assert np.array_equal(opened.array(name), expected), "read again from the file"
