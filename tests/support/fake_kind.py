"""A fake kind of device that every machine has: CPU memory with a placement that copies tensors.

It shows all that a new kind needs, in one file; tests/devices/test_kinds.py adds its entry to the
table. Child processes import it through PYTHONPATH and get the entry from their parent.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from handglass.runtime.devices.device_info import DeviceInfo
from handglass.runtime.devices.driver import Driver, Hints
from handglass.runtime.devices.kinds import DeviceKind
from handglass.runtime.devices.quirks import Quirk
from handglass.runtime.system.shared_library import SharedLibrary

KIND = DeviceKind("fake", "Fake", dlpack=1, library="", driver=__name__)
COUNT = "FAKE_DEVICES"
"""The environment variable with the number of devices."""


class FakeDriver(Driver):
    hints = Hints(
        absent=f"plug one in, or set {COUNT}",
        crash="pull it out",
        hang="push it",
        lacking="--target fake asks for least",
    )
    variables = (COUNT,)

    def load(self, plugin: SharedLibrary | None) -> None:
        """Nothing to load: TVM's runtime supports the CPU."""

    def devices(self) -> list[DeviceInfo]:
        if os.environ.get(COUNT) == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        return [fake_device(index) for index in range(int(os.environ.get(COUNT, "2")))]

    def problem(self) -> str | None:
        return None if self.devices() else f"{COUNT} is 0"

    def quirks(self, device: DeviceInfo) -> tuple[Quirk, ...]:
        return (Quirk("halves", "it forgets halves", "made up", loses=("supports_float16",)),)

    def statistics(self, index: int) -> Mapping[str, Any]:
        return {}

    def driver_files(self) -> Iterator[Path]:
        yield Path(__file__)


def fake_device(index: int) -> DeviceInfo:
    return DeviceInfo(
        kind=KIND.name,
        index=index,
        name=f"{('Left', 'Right')[index % 2]} hand",
        sort="virtual",
        uuid=f"{index:032x}",
        driver="hands 1.0",
        driver_key="1.0",
        interface="Fake 1.0",
        memory=1 << 30,
        unified_memory=True,
        abilities={"supports_float16": True, "max_threads_per_block": 64},
        report={},
    )


DRIVER = FakeDriver
