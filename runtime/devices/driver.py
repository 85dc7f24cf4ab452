"""The interface that a device kind implements, in a class named `DRIVER`.

The table in kinds.py names its module. Importing that module must not load a driver.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..bundle.manifest import Manifest
from ..execution.placement import DeviceMemory, Placement
from ..system.clock_rate import ClockState
from ..system.shared_library import SharedLibrary
from .device_info import DeviceInfo
from .kinds import KINDS, DeviceKind
from .quirks import Quirk


@dataclass(frozen=True)
class Hints:
    """Advice for the user, appended to error messages."""

    absent: str
    """If there is no device of this kind."""
    crash: str
    """If a driver crashes when it lists its devices."""
    hang: str
    """If a driver hangs when it lists its devices."""
    lacking: str
    """If a device lacks what a bundle requires, whatever the bundle is."""


class Driver(ABC):
    """The devices of one kind. TVM's runtime must be loaded before any method is called."""

    hints: Hints
    variables: tuple[str, ...]
    """Prefixes of the environment variables that select drivers."""

    def __init__(self, kind: DeviceKind) -> None:
        self.kind = kind

    @abstractmethod
    def load(self, plugin: SharedLibrary | None) -> None:
        """Register devices of this kind with TVM's runtime; a second call does nothing.

        `plugin` is a prebuilt library, or None to find or build it. Raises DeviceError if that
        fails; a machine without a device is not an error.
        """

    @abstractmethod
    def devices(self) -> list[DeviceInfo]:
        """The devices of this machine, in the order of KIND:0, KIND:1, ..."""

    @abstractmethod
    def problem(self) -> str | None:
        """Why there are no devices; None if there are."""

    @abstractmethod
    def quirks(self, device: DeviceInfo) -> tuple[Quirk, ...]:
        """The known bugs of its driver."""

    @abstractmethod
    def statistics(self, index: int) -> Mapping[str, Any]:
        """Counters since the device was opened: live_bytes, peak_bytes, launches, ..."""

    @abstractmethod
    def driver_files(self) -> Iterator[Path]:
        """Files that change when drivers are installed or removed."""

    def unfit(self, images: Sequence[str], device: DeviceInfo) -> str:
        """Why the device can run none of a bundle's images; empty if it can run one."""
        return ""

    def clock_state(self, device: DeviceInfo) -> ClockState:
        """Clock, temperature and throttling now, as far as the system tells."""
        return ClockState(None, None, None)

    def open(self, index: int, smaller: str = "") -> Placement:
        """The placement of tensors on the device, with its clock and error translation.

        `smaller`: what the user may do if its memory does not suffice."""
        return DeviceMemory(self.kind.name, self.kind.dlpack, index, smaller)

    def demand_less(self, manifest: Manifest) -> str:
        """Advice for a bundle whose code requires what a device lacks: what would require less."""
        return self.hints.lacking

    def find(self, plugin: SharedLibrary | None = None) -> tuple[Sequence[DeviceInfo], str | None]:
        """Load the plug-in and list the devices; also the reason if there are none."""
        self.load(plugin)
        devices = self.devices()
        return devices, None if devices else self.problem()


def open_driver(kind: DeviceKind) -> Driver:
    """Import the driver of a kind other than the CPU."""
    driver: Driver = import_module(kind.driver, __package__).DRIVER(kind)
    return driver


def clock_of(device: DeviceInfo) -> ClockState:
    """The state of the device's clock now."""
    return open_driver(KINDS[device.kind]).clock_state(device)


def quirks_of(device: DeviceInfo) -> tuple[Quirk, ...]:
    """The known bugs of the device's driver."""
    return open_driver(KINDS[device.kind]).quirks(device)
