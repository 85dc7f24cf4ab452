"""Code generators by kind of device: one table, one line per kind.

LLVM generates the code for every CPU, including the host of a GPU, and has no entry.
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
    "cuda": ".cuda.generator",
}
"""Kind -> module that defines `GENERATOR`, imported on first use."""


class Generator(ABC):
    """Interface of a code generator; each kind's module exports a subclass as `GENERATOR`."""

    @abstractmethod
    def prepare(self, target: Target) -> None:
        """Enable TVM to compile for a target of this kind in this process. Idempotent.

        Raises DeviceError if this machine lacks a tool for that.
        """

    @abstractmethod
    def plugin_for(self, target: Target, needed: bool) -> Path | None:
        """The plug-in library to ship in a bundle, so that its device needs no compiler.

        If it cannot be built on this machine, raises DeviceError if `needed`, else returns None.
        """

    @abstractmethod
    def detected_target(self) -> Target:
        """The target of this machine's first device. Raises DeviceError if there is none."""

    @abstractmethod
    def target_of(self, device: DeviceInfo) -> Target:
        """The target that describes `device`."""


def generator_for(kind: str) -> Generator:
    generator: Generator = import_module(GENERATORS[kind], __package__).GENERATOR()
    return generator


def prepare_compiler(target: Target) -> None:
    """Enable TVM to compile for the target."""
    if target.kind != CPU:
        generator_for(target.kind).prepare(target)


def plugin_for(target: Target, needed: bool) -> dict[str, Path]:
    """Plug-in files that a bundle for the target ships, by their names in the bundle."""
    if target.kind == CPU or not KINDS[target.kind].library:
        return {}
    found = generator_for(target.kind).plugin_for(target, needed)
    return {KINDS[target.kind].library: found} if found else {}


def detected_names() -> dict[str, str]:
    """Names of the targets that are detected on lookup -> their kinds."""
    return {host_name(kind): kind for kind in GENERATORS}
