"""GPU targets: presets, their hosts, and targets derived from a driver's report."""

from dataclasses import replace

import pytest
from fake_gpus import fake_gpu

from handglass.errors import DeviceError, UsageError
from handglass.runtime.bundle.entries import TargetEntry
from handglass.runtime.devices import vulkan
from handglass.runtime.devices.device_info import DeviceInfo
from handglass.runtime.devices.device_select import check_abilities
from handglass.targets import find_target, known_targets
from handglass.targets.codegen.vulkan.detection import DETECTED, gpu_of
from handglass.targets.codegen.vulkan.gpu import REDUCTIONS, VulkanCapabilities

ABLE: dict[str, bool | int] = {
    "supports_float16": True,
    "supports_int8": True,
    "supports_int16": False,
    "supports_int64": True,
    "supports_8bit_buffer": True,
    "supports_16bit_buffer": True,
    "supports_integer_dot_product": True,
    "supports_cooperative_matrix": True,
    "supported_subgroup_operations": 0xFF,
    "subgroup_size": 32,
    "min_subgroup_size": 32,
    "max_subgroup_size": 32,
    "widest_subgroup": 32,
    "subgroup_sizes": 32,
    "max_threads_per_block": 2048,
    "max_shared_memory_per_block": 49152,
    "max_push_constants_size": 256,
    "max_storage_buffer_range": 1 << 30,
    "max_uniform_buffer_range": 65536,
}


FLOATS, BYTES = (0, 0, 1, 1), (3, 3, 5, 5)
"""VkComponentTypeKHR of a, b, c and the result."""


def matrix(m: int, n: int, k: int, types: tuple[int, ...] = FLOATS) -> dict[str, int | bool]:
    """A cooperative matrix of subgroup scope, as the plug-in reports it."""
    named = dict(zip(("a", "b", "c", "result"), types, strict=True))
    return {"m": m, "n": n, "k": k, **named, "saturating": False, "scope": 3}


def device(*matrices: dict[str, int | bool], **abilities: bool | int) -> DeviceInfo:
    found = fake_gpu("A GPU (of ours)", cooperative_matrices=list(matrices))
    return replace(found, abilities={**ABLE, **abilities})


def test_what_a_device_reports_becomes_the_target() -> None:
    gpu = gpu_of(device(matrix(8, 8, 16), matrix(16, 16, 16), matrix(16, 16, 32, BYTES)))
    assert gpu.supports_int64 and not gpu.supports_int16
    assert gpu.supported_subgroup_operations == REDUCTIONS
    assert gpu.cooperative_matrix == (16, 16, 16), "the largest of those that we multiply by"
    assert gpu.max_threads_per_block == 1024 and gpu.max_storage_buffer_range == 1 << 30
    assert gpu.abilities["supports_cooperative_matrix"] == 1


@pytest.mark.parametrize("operations", [0, 1, 1 | 4, 1 | 16])
def test_sums_across_subgroups_take_all_of_their_operations(operations: int) -> None:
    found = gpu_of(device(supported_subgroup_operations=operations))
    assert found.supported_subgroup_operations == 0


@pytest.mark.parametrize("sizes", [0, 64])
def test_no_matrices_where_the_width_of_subgroups_may_change(sizes: int) -> None:
    """Their kernels rely on this size; with another one, results would be silently wrong."""
    gpu = gpu_of(device(matrix(16, 16, 16), subgroup_sizes=sizes))
    assert gpu.cooperative_matrix is None and not gpu.abilities["supports_cooperative_matrix"]
    assert gpu.subgroup_size is None and "mattr" not in gpu.tvm


def test_a_width_that_kernels_can_ask_for_will_do() -> None:
    gpu = gpu_of(device(matrix(16, 16, 16), subgroup_sizes=8 | 16 | 32, min_subgroup_size=8))
    assert gpu.cooperative_matrix and gpu.subgroup_size == 32


def test_sums_by_subgroups_take_so_many_threads_or_more() -> None:
    gpu = gpu_of(device())
    assert gpu.tvm["mattr"] == ["subgroup-32"] and "subgroup_sizes" not in gpu.abilities
    entry = TargetEntry("t", "x86_64-linux-gnu", "x86-64", (), "vulkan", gpu.abilities)
    check_abilities(entry, device(subgroup_sizes=64, widest_subgroup=64), frozenset())
    with pytest.raises(DeviceError, match="widest_subgroup .*32, .*16"):
        check_abilities(entry, device(subgroup_sizes=16, widest_subgroup=16), frozenset())


def test_a_bundle_with_matrices_asks_for_the_width_that_it_was_made_for() -> None:
    gpu = gpu_of(device(matrix(16, 16, 16)))
    assert gpu.tvm["mattr"] == ["coopmat-16x16x16", "subgroup-32"]
    wide = {"subgroup_sizes": 64, "widest_subgroup": 64}
    entry = TargetEntry("t", "x86_64-linux-gnu", "x86-64", (), "vulkan", gpu.abilities)
    check_abilities(entry, device(matrix(16, 16, 16)), frozenset())
    with pytest.raises(DeviceError, match="subgroup_sizes .*0x20"):
        check_abilities(entry, device(matrix(16, 16, 16), **wide), frozenset())


def test_what_is_known_not_to_work_is_not_used() -> None:
    lost = frozenset({"supports_float16", "supports_cooperative_matrix"})
    gpu = gpu_of(device(matrix(16, 16, 16)), lost)
    assert not gpu.supports_float16 and gpu.cooperative_matrix is None
    assert gpu.supports_integer_dot_product, "nothing was said about it"


def test_a_gpu_stands_beside_another_cpu() -> None:
    target = find_target("vulkan-nvidia@jetson-orin-cpu")
    assert target.gpu == known_targets()["vulkan-nvidia"].gpu
    assert target.triple == "aarch64-linux-gnu" and target.name == "vulkan-nvidia@jetson-orin-cpu"
    assert target.tvm["host"]["mcpu"] == known_targets()["jetson-orin-cpu"].cpu


@pytest.mark.parametrize("name", ["arm64@vulkan", "vulkan@vulkan-amd", "arm64@arm64"])
def test_not_the_other_way_round(name: str) -> None:
    with pytest.raises(UsageError, match="@"):
        find_target(name)


def test_no_device_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vulkan, "vulkan_devices", list)
    monkeypatch.setattr(vulkan, "vulkan_problem", lambda: "no driver is installed")
    with pytest.raises(DeviceError, match="--target vulkan"):
        find_target(DETECTED)


def test_presets_keep_to_what_vulkan_promises_or_more() -> None:
    least = VulkanCapabilities()
    for target in known_targets().values():
        if isinstance(target.gpu, VulkanCapabilities):
            assert target.gpu.max_shared_memory_per_block >= least.max_shared_memory_per_block
            assert target.gpu.max_storage_buffer_range >= least.max_storage_buffer_range
            assert target.features == () or target.architecture == "aarch64"
