"""The device that we are on, as a record would name it."""

from handglass.runtime.hardware import read_machine
from handglass.runtime.machine import thread_count

from .record import Device


def this_device() -> Device:
    machine = read_machine()
    return Device(machine.model, machine.architecture, machine.cores, thread_count(None))
