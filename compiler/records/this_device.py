"""The device that we are on, as a record would name it."""

from handglass.errors import DeviceError
from handglass.runtime.devices.vulkan import vulkan_devices
from handglass.runtime.system.hardware import read_machine
from handglass.runtime.system.machine import thread_count
from handglass.targets.target import Target

from .record import Device


def this_device(target: Target | None = None) -> Device | None:
    """Of the kind that `target` is for, by default the CPU; None where there is no such."""
    if target is not None and target.gpu is not None:
        return _first_gpu()
    machine = read_machine()
    return Device(machine.model, machine.architecture, machine.cores, thread_count(None))


def gpu_device(name: str) -> Device:
    """The CPU beside it has no part in the kernels' times."""
    return Device(name, "vulkan", 1, 1)


def _first_gpu() -> Device | None:
    try:
        devices = vulkan_devices()
    except DeviceError:
        return None
    return gpu_device(devices[0].name) if devices else None
