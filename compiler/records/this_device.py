"""The device that we are on, as a record would name it."""

from handglass.errors import DeviceError
from handglass.runtime.devices.driver import open_driver
from handglass.runtime.devices.kinds import CPU, KINDS
from handglass.runtime.system.hardware import read_machine
from handglass.runtime.system.machine import thread_count
from handglass.targets.target import Target

from .record import Device


def this_device(target: Target | None = None) -> Device | None:
    """Of the kind that `target` is for, by default the CPU; None where there is no such."""
    if target is not None and target.kind != CPU:
        return _first(target.kind)
    machine = read_machine()
    return Device(machine.model, machine.architecture, machine.cores, thread_count(None))


def gpu_device(kind: str, name: str) -> Device:
    """The CPU beside it has no part in the kernels' times."""
    return Device(name, kind, 1, 1)


def _first(kind: str) -> Device | None:
    try:
        devices, _ = open_driver(KINDS[kind]).find()
    except DeviceError:
        return None
    return gpu_device(kind, devices[0].name) if devices else None
