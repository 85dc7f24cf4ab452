"""Selects the device for measurements and checks that it runs code for the target."""

from __future__ import annotations

from handglass.errors import MismatchError
from handglass.runtime.bundle.requirements import missing_capabilities
from handglass.runtime.remote.client import CPU, Description, DeviceEntry
from handglass.targets.target import Target

from ..records.record import Device
from ..records.this_device import gpu_device


def device_for(target: Target) -> str:
    """The name of the target's device in the device protocol: the first of its kind."""
    return CPU if target.kind == CPU else f"{target.kind}:0"


def device_of(description: Description) -> Device:
    """The described device, as a record names it."""
    machine = description.machine
    if description.devices:
        return gpu_device(description.kind, description.devices[0].name)
    return Device(machine.model, machine.architecture, machine.cores, description.threads)


def check_device(description: Description, target: Target) -> None:
    """Raise MismatchError if the device cannot run code for the target."""
    machine = description.machine
    if machine.architecture != target.architecture:
        raise MismatchError(
            f"the device is {machine.architecture} ({machine.model}), target '{target.name}' is "
            f"{target.architecture}"
        )
    missing = target.missing_on(machine.flags)
    if missing:
        raise MismatchError(
            f"the device ({machine.model}) lacks {', '.join(missing)}, which code for target "
            f"'{target.name}' requires"
        )
    if target.gpu is not None:
        check_gpu(description.devices[0], target)


def check_gpu(gpu: DeviceEntry, target: Target) -> None:
    """Raise MismatchError if the GPU lacks capabilities that code for the target requires."""
    assert target.gpu is not None
    lacking = missing_capabilities(target.gpu.abilities, gpu.abilities)
    if lacking:
        raise MismatchError(
            f"the device's GPU ({gpu.name}) cannot run code for '{target.name}': "
            f"{'; '.join(lacking)}"
        )
