"""The table of known driver bugs, and the devices that its rows match."""

import json
from typing import Any

import pytest
from fake_gpus import fake_gpu, mesa

from handglass.errors import InputError
from handglass.runtime.devices.driver import quirks_of
from handglass.runtime.devices.quirks import lost_abilities
from handglass.runtime.devices.vulkan.quirks import (
    TABLE,
    VulkanQuirk,
    driver_version,
    known_quirks,
    read_quirks,
)


def named(**device: Any) -> set[str]:
    return {quirk.name for quirk in quirks_of(fake_gpu(**device))}


def test_nothing_is_held_against_most_devices() -> None:
    assert named() == set()
    assert named(name="NVIDIA GeForce RTX 4090", driver_id=4, driver_version=580 << 22) == set()


@pytest.mark.parametrize(
    ("version", "hit"),
    [((22, 3, 6), False), ((25, 0, 0), True), ((25, 0, 7), True), ((25, 1, 0), False)],
)
def test_only_the_versions_that_were_seen(version: tuple[int, int, int], hit: bool) -> None:
    lavapipe = {"driver_id": 13, "driver_version": mesa(*version)}
    assert ("lavapipe-divergent-barrier" in named(**lavapipe)) is hit


def test_an_ability_is_lost() -> None:
    apu = fake_gpu("AMD Radeon RX 6800", driver_id=1)
    assert lost_abilities(quirks_of(apu)) == {"supports_cooperative_matrix"}
    assert not quirks_of(fake_gpu("AMD Radeon RX 7900 XTX", driver_id=1))
    assert not quirks_of(fake_gpu("AMD Radeon RX 6800", driver_id=3)), "Mesa's driver is right"


def test_a_row_may_only_tell() -> None:
    (quirk,) = quirks_of(fake_gpu("Intel(R) Arc(tm) A770", driver_id=6))
    assert not quirk.loses and not quirk.broken and quirk.source.startswith("https://")


@pytest.mark.parametrize(
    ("driver_id", "packed", "version"),
    [
        (3, mesa(25, 2, 1), (25, 2, 1)),
        (4, 535 << 22 | 183 << 14 | 1 << 6, (535, 183, 1, 0)),
        (5, 101 << 14 | 5333, (101, 5333)),
    ],
)
def test_versions_are_packed_in_three_ways(
    driver_id: int, packed: int, version: tuple[int, ...]
) -> None:
    assert driver_version(fake_gpu(driver_id=driver_id, driver_version=packed)) == version


def test_every_row_of_ours_has_a_source_and_an_effect_or_a_word() -> None:
    assert len(known_quirks()) == len(json.loads(TABLE.read_text())["quirks"])
    for quirk in known_quirks():
        assert len(quirk.reason) > 20
        assert quirk.source.startswith(("https://", "run by us"))


ROW = {"name": "n", "reason": "r", "source": "s", "driver_ids": [1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reason": ""}, "reason and source"),
        ({"driver_ids": []}, "a driver, a vendor or a device"),
        ({"versions": ["25.0"]}, "versions"),
        ({"versions": ["25.0", "latest"]}, "versions"),
        ({"device": "("}, "regular expression"),
        ({"looses": ["supports_int8"]}, "looses'"),
        ({"broken": 1}, "broken"),
    ],
)
def test_a_row_that_cannot_be_meant(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_quirks(json.dumps({"quirks": [ROW | change]}), "here")


def test_two_rows_of_one_name_or_no_table_at_all() -> None:
    with pytest.raises(InputError, match="here: "):
        read_quirks(json.dumps({"quirks": [ROW, ROW]}), "here")
    with pytest.raises(InputError, match="JSON"):
        read_quirks("{", "here")
    assert read_quirks(json.dumps({"quirks": [ROW]}), "here") == (
        VulkanQuirk("n", "r", "s", driver_ids=(1,)),
    )
