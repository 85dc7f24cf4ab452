"""Selection of a device, and the errors for a missing or insufficient one."""

from typing import Any

import pytest
from fake_gpus import ABILITIES, fake_gpu

from handglass.errors import DeviceError, MismatchError, UsageError
from handglass.runtime.bundle.entries import TargetEntry
from handglass.runtime.devices.device_select import (
    DeviceRequest,
    check_abilities,
    choose,
    parse_device,
    requested_device,
)

GPUS = [
    fake_gpu("NVIDIA GeForce RTX 4090", 0),
    fake_gpu("AMD Radeon 780M", 1),
    fake_gpu("AMD Radeon RX 7900 XTX", 2),
]
CPU_TARGET = TargetEntry("host", "x86_64-linux-gnu", "x86-64", ())
GPU_TARGET = TargetEntry("vulkan", "x86_64-linux-gnu", "x86-64", (), "vulkan")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("cpu", DeviceRequest("cpu")),
        ("vulkan", DeviceRequest("vulkan")),
        ("vulkan:1", DeviceRequest("vulkan", "1")),
        ("vulkan:Radeon RX", DeviceRequest("vulkan", "Radeon RX")),
        ("vulkan: 780m ", DeviceRequest("vulkan", "780m")),
    ],
)
def test_how_a_device_is_asked_for(text: str, asked: DeviceRequest) -> None:
    assert parse_device(text) == asked


@pytest.mark.parametrize("text", ["", "metal", "metal:0", "vulkan:", "vulkan: ", "cpu:0", "Vulkan"])
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(UsageError, match="vulkan:NUMBER"):
        parse_device(text)


@pytest.mark.parametrize(
    ("which", "index"), [("", 0), ("0", 0), ("2", 2), ("rtx", 0), ("RX 79", 2), ("780m", 1)]
)
def test_the_one_that_is_meant(which: str, index: int) -> None:
    assert choose(DeviceRequest("vulkan", which), GPUS).index == index


@pytest.mark.parametrize("which", ["3", "99", "intel"])
def test_one_that_is_not_there(which: str) -> None:
    with pytest.raises(DeviceError, match=f"vulkan:{which}; available: vulkan:0 ") as e:
        choose(DeviceRequest("vulkan", which), GPUS)
    assert all(f"vulkan:{gpu.index} ({gpu.name})" in str(e.value) for gpu in GPUS)


def test_a_name_of_two() -> None:
    with pytest.raises(DeviceError, match=r"vulkan:radeon: vulkan:1 .*, vulkan:2 "):
        choose(DeviceRequest("vulkan", "radeon"), GPUS)


def test_no_device_at_all() -> None:
    with pytest.raises(DeviceError, match=r"Vulkan .*\(no loader\): install a"):
        choose(DeviceRequest("vulkan"), [], "no loader")


def test_a_bundle_is_for_one_kind_of_device() -> None:
    assert requested_device(CPU_TARGET, None, "b") == DeviceRequest("cpu")
    assert requested_device(GPU_TARGET, None, "b") == DeviceRequest("vulkan")
    assert requested_device(GPU_TARGET, "vulkan:1", "b") == DeviceRequest("vulkan", "1")
    with pytest.raises(MismatchError, match="b: .*Vulkan .*--device cpu is a CPU"):
        requested_device(GPU_TARGET, "cpu", "b")
    with pytest.raises(MismatchError, match="a CPU .*--device vulkan:0 is Vulkan"):
        requested_device(CPU_TARGET, "vulkan:0", "b")


def needing(**abilities: Any) -> TargetEntry:
    return TargetEntry("vulkan", "x86_64-linux-gnu", "x86-64", (), "vulkan", abilities)


def test_a_device_that_has_everything() -> None:
    check_abilities(needing(**ABILITIES), GPUS[0], frozenset())
    check_abilities(needing(supports_nothing=0, max_new_thing=0), GPUS[0], frozenset())


@pytest.mark.parametrize(
    ("needed", "words"),
    [
        ({"supports_cooperative_matrix": 1}, "it lacks supports_cooperative_matrix"),
        ({"supports_new_thing": True}, "it lacks supports_new_thing"),
        (
            {"max_shared_memory_per_block": 32768},
            "max_shared_memory_per_block must be at least 32768, the device has 16384",
        ),
        (
            {"supported_subgroup_operations": 0b1101},
            "supported_subgroup_operations needs bits 0xd, the device lacks 0x8",
        ),
    ],
)
def test_a_device_that_lacks_something(needed: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match="vulkan:0") as e:
        check_abilities(needing(supports_float16=1, **needed), GPUS[0], frozenset())
    assert words in str(e.value) and "supports_float16" not in str(e.value)


def test_what_a_driver_gets_wrong_is_as_good_as_lacking() -> None:
    lost = frozenset({"supports_float16", "supports_int8"})
    with pytest.raises(DeviceError, match="wrong results with supports_float16"):
        check_abilities(needing(supports_float16=1, supports_int8=0), GPUS[0], lost)
