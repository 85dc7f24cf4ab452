"""The device of this machine, as a record names it."""

from handglass.errors import DeviceError
from handglass.runtime.devices.driver import open_driver
from handglass.runtime.devices.kinds import CPU, KINDS
from handglass.runtime.system.hardware import read_machine
from handglass.runtime.system.machine import thread_count
from handglass.targets.target import Target

from .record import Device


def this_device(target: Target | None = None) -> Device | None:
    """The device of the target's kind, by default the CPU; None if there is none."""
    if target is not None and target.kind != CPU:
        return _first(target.kind)
    machine = read_machine()
    return Device(machine.model, machine.architecture, machine.cores, thread_count(None))


def gpu_device(kind: str, name: str) -> Device:
    """A GPU as a record names it; its host CPU does not affect kernel times."""
    return Device(name, kind, 1, 1)


def _first(kind: str) -> Device | None:
    try:
        devices, _ = open_driver(KINDS[kind]).find()
    except DeviceError:
        return None
    return gpu_device(kind, devices[0].name) if devices else None
