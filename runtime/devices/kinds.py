"""The kinds of devices that a model runs on: one table, one line a kind.

What takes code is in the folder of the kind (driver.py says what that has to offer), which is
imported when such a device is asked for and not before.
"""

from __future__ import annotations

from dataclasses import dataclass

CPU = "cpu"


@dataclass(frozen=True)
class DeviceKind:
    name: str
    """As --device, a bundle's manifest and TVM's runtime have it."""
    label: str
    """In messages: compiled for ..."""
    dlpack: int
    """DLPack's number of the device type, which TVM's virtual machine is told."""
    library: str = ""
    """The file of its plug-in for TVM's runtime in a bundle; empty: it needs none."""
    driver: str = ""
    """The module with its `DRIVER`; empty for the CPU, whose memory is that of this process."""

    @property
    def is_host(self) -> bool:
        return not self.driver


KINDS: dict[str, DeviceKind] = {
    kind.name: kind
    for kind in (
        DeviceKind(CPU, "a CPU", dlpack=1),
        DeviceKind("vulkan", "Vulkan", 7, "libhandglass_vulkan.so", ".vulkan.kind"),
    )
}


def device_names(with_host: bool = True) -> str:
    """How devices are asked for, in words: "cpu, vulkan, vulkan:NUMBER or ..."."""
    names = [CPU] if with_host else []
    for kind in KINDS.values():
        if not kind.is_host:
            names += [kind.name, f"{kind.name}:NUMBER", f"{kind.name}:PART-OF-ITS-NAME"]
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def plugin_kinds() -> list[DeviceKind]:
    """Those whose devices are reached through a library of ours."""
    return [kind for kind in KINDS.values() if kind.library]
