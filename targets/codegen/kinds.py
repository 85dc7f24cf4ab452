"""How code is generated for each kind of devices: one table, one line a kind.

LLVM makes the code of every CPU, also of the one beside a GPU, and needs nothing of this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path

from handglass.runtime.devices.device_info import DeviceInfo
from handglass.runtime.devices.kinds import CPU, KINDS

from ..target import Target, host_name

GENERATORS = {
    "vulkan": ".vulkan.generator",
}
"""Kind -> the module with its `GENERATOR`, which is imported when such code is asked for."""


class Generator(ABC):
    """What the folder of a kind has to offer: a class like this one, as `GENERATOR`."""

    @abstractmethod
    def prepare(self) -> None:
        """Make TVM compile for such devices in this process; a second call does nothing."""

    @abstractmethod
    def plugin_for(self, target: Target, needed: bool) -> Path | None:
        """The library that a bundle brings along, so that its device needs no compiler.

        None where it cannot be made on this machine and is not `needed`, else DeviceError.
        """

    @abstractmethod
    def detected_target(self) -> Target:
        """The first device of this machine; DeviceError where there is none."""

    @abstractmethod
    def target_of(self, device: DeviceInfo) -> Target:
        """The target that a device is."""


def generator_for(kind: str) -> Generator:
    generator: Generator = import_module(GENERATORS[kind], __package__).GENERATOR()
    return generator


def prepare_compiler(target: Target) -> None:
    """Whatever TVM needs before it compiles for the target."""
    if target.kind != CPU:
        generator_for(target.kind).prepare()


def plugin_for(target: Target, needed: bool) -> dict[str, Path]:
    """The files that a bundle for the target brings to reach its device, by their names there."""
    if target.kind == CPU or not KINDS[target.kind].library:
        return {}
    found = generator_for(target.kind).plugin_for(target, needed)
    return {KINDS[target.kind].library: found} if found else {}


def detected_names() -> dict[str, str]:
    """The name of a target that is looked for when it is asked for -> its kind."""
    return {host_name(kind): kind for kind in GENERATORS}
