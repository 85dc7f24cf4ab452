"""Judges candidates by counted instructions, for an emulated device, whose time means nothing."""

from __future__ import annotations

from dataclasses import replace

from handglass.errors import DeviceError

from ..lowering.kernel_code import ENTRY
from ..lowering.task_arguments import Arguments
from ..records.record import NANOSECOND
from .device_runner import DEADLINE, DeviceRunner


class InstructionRunner(DeviceRunner):
    """A DeviceRunner whose seconds are instructions of the kernel's code, a nanosecond each.

    They are the same each time: one call of one copy of the arguments is enough. Calls of libraries
    (memcpy) and the thread pool are not counted, nor is waiting for memory.
    """

    def check(self) -> None:
        """Raise DeviceError if the device does not count instructions."""
        if not self.description.counts_instructions:
            raise DeviceError(
                "--measure instructions: the device counts none; start its server under QEMU with "
                "--counter FILE (docs/devices.md)"
            )

    def prepare(self, arguments: Arguments) -> None:
        super().prepare(replace(arguments, copies=1))

    def calls_for(self, library: bytes) -> int:
        return 1

    def seconds(self, library: bytes, number: int, samples: int) -> list[float]:
        name = self._name(library)
        (count,) = self._attempt(
            lambda client: client.count(name, ENTRY, "main", 1, 1, deadline_s=DEADLINE), [library]
        )
        return [count * NANOSECOND] * samples
