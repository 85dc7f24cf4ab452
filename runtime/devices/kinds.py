"""The table of device kinds that a model can run on, one line per kind.

The code of a kind is in its own folder and implements driver.py; it is imported when a device of
the kind is first requested.
"""

from __future__ import annotations

from dataclasses import dataclass

CPU = "cpu"


@dataclass(frozen=True)
class DeviceKind:
    name: str
    """Name in --device, in manifests and in TVM's runtime."""
    label: str
    """Name in messages: "compiled for ..."."""
    dlpack: int
    """DLPack device type, passed to TVM's virtual machine."""
    library: str = ""
    """File name of the plug-in for TVM's runtime; empty if the kind needs none."""
    driver: str = ""
    """The module that defines `DRIVER`; empty for the CPU, which uses host memory."""

    @property
    def is_host(self) -> bool:
        return not self.driver


KINDS: dict[str, DeviceKind] = {
    kind.name: kind
    for kind in (
        DeviceKind(CPU, "a CPU", dlpack=1),
        DeviceKind("cuda", "CUDA", 2, "libhandglass_cuda.so", ".cuda.kind"),
        DeviceKind("vulkan", "Vulkan", 7, "libhandglass_vulkan.so", ".vulkan.kind"),
    )
}


def device_names(with_host: bool = True) -> str:
    """The accepted values of --device, for messages: "cpu, vulkan, vulkan:NUMBER or ..."."""
    names = [CPU] if with_host else []
    for kind in KINDS.values():
        if not kind.is_host:
            names += [kind.name, f"{kind.name}:NUMBER", f"{kind.name}:PART-OF-ITS-NAME"]
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def plugin_kinds() -> list[DeviceKind]:
    """The kinds that need a plug-in."""
    return [kind for kind in KINDS.values() if kind.library]
