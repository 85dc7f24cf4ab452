"""Lists the CUDA devices of this machine as the driver describes them."""

from __future__ import annotations

from typing import Any

from ..device_info import Ability, DeviceInfo
from .plugin import CUDA


def cuda_devices() -> list[DeviceInfo]:
    """The devices of this machine; empty if there is no driver (`cuda_problem()` says why).

    Raises DeviceError if the plug-in is missing or the environment names a device that does not
    exist.
    """
    return [_device(index, report) for index, report in enumerate(_described()["devices"])]


def cuda_problem() -> str | None:
    """Why there are no devices; None if there are."""
    return _described()["problem"] or None


def cuda_statistics(device: int = 0) -> dict[str, Any]:
    """Counters since the device was opened (opens it if necessary): live_bytes, peak_bytes,
    live_buffers, blocks, launches, waits, ... Raises DeviceError if there is none."""
    return CUDA.ask("statistics", device)


def _described() -> dict[str, Any]:
    return CUDA.ask("devices")


def _device(index: int, report: dict[str, Any]) -> DeviceInfo:
    driver = f"NVIDIA's driver for CUDA {report['driver_version']}"
    return DeviceInfo(
        kind="cuda",
        index=index,
        name=report["name"],
        sort="integrated" if report["integrated"] else "discrete",
        uuid=report["uuid"],
        driver=driver,
        driver_key=f"{report['driver_version']} {report['architecture']}",
        interface=f"CUDA {report['driver_version']}",
        memory=report["memory"],
        unified_memory=report["integrated"],
        abilities=_abilities(report),
        report=report,
    )


def _abilities(report: dict[str, Any]) -> dict[str, Ability]:
    """Capabilities, named after TVM's target attributes where these exist."""
    size = report["max_block_size"]
    return {
        "compute_capability": report["capability"],
        f"supports_{report['architecture']}": True,
        "warp_size": report["warp_size"],
        "max_num_threads": report["max_threads_per_block"],
        "max_threads_per_block": report["max_threads_per_block"],
        "max_block_size_x": size[0],
        "max_block_size_y": size[1],
        "max_block_size_z": size[2],
        "max_shared_memory_per_block": report["shared_per_block"],
        "max_shared_memory_per_block_optin": report["shared_optin"],
        "registers_per_block": report["registers_per_block"],
    }
