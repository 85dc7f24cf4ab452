"""What the folder of a kind of devices has to offer: a class like this one, as `DRIVER`.

The module that has it is named in the table (kinds.py). Importing it must not load a driver.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..execution.placement import DeviceMemory, Placement
from .device_info import DeviceInfo
from .kinds import KINDS, DeviceKind
from .quirks import Quirk


@dataclass(frozen=True)
class Hints:
    """What a person can do, in words that end a message."""

    absent: str
    """Where there is no such device."""
    crash: str
    """Where a driver ends the process that asks for its devices."""
    hang: str
    """Where it never answers."""
    lacking: str
    """Where a device lacks something: what asks for less."""


class Driver(ABC):
    """Devices of one kind. TVM's runtime runs already when anything is asked of them."""

    hints: Hints
    variables: tuple[str, ...]
    """How those environment variables begin that decide which drivers are loaded."""

    def __init__(self, kind: DeviceKind) -> None:
        self.kind = kind

    @abstractmethod
    def load(self, plugin: Path | None) -> None:
        """Make TVM's runtime know such devices; a second call does nothing.

        `plugin` is a library that was built elsewhere, None: it is to be found or built.
        DeviceError where that fails. A machine without a device is no failure here.
        """

    @abstractmethod
    def devices(self) -> list[DeviceInfo]:
        """Those of this machine, in the order of KIND:0, KIND:1, ..."""

    @abstractmethod
    def problem(self) -> str | None:
        """Why there are none, in words; None where there are."""

    @abstractmethod
    def quirks(self, device: DeviceInfo) -> tuple[Quirk, ...]:
        """What is known to be wrong with its driver."""

    @abstractmethod
    def statistics(self, index: int) -> Mapping[str, Any]:
        """Counts since the device was opened: live_bytes, peak_bytes, launches, ..."""

    @abstractmethod
    def driver_files(self) -> Iterator[Path]:
        """Files that change when drivers are installed or removed."""

    def open(self, index: int) -> Placement:
        """Where tensors on the device live, with its clock and the words for its errors."""
        return DeviceMemory(self.kind.name, self.kind.dlpack, index)

    def find(self, plugin: Path | None = None) -> tuple[Sequence[DeviceInfo], str | None]:
        """The devices, or why there are none."""
        self.load(plugin)
        devices = self.devices()
        return devices, None if devices else self.problem()


def open_driver(kind: DeviceKind) -> Driver:
    """Of a kind other than the CPU; its module is imported now."""
    driver: Driver = import_module(kind.driver, __package__).DRIVER(kind)
    return driver


def quirks_of(device: DeviceInfo) -> tuple[Quirk, ...]:
    """What is known to be wrong with its driver."""
    return open_driver(KINDS[device.kind]).quirks(device)
