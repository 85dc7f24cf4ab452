"""The devices of this machine as a process of its own finds them: a driver may crash when it is
asked for them, or hang.

That they could be listed is remembered until the drivers change that the loader would ask.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from handglass import __version__
from handglass.errors import DeviceError

from ..system.isolated import run_isolated
from ..system.user_cache import cache_folder, read_cached, write_cached
from .vulkan import VulkanDevice

LIST_DEVICES = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from handglass.errors import HandglassError
from handglass.runtime.execution.tvm_runtime import start_runtime
from handglass.runtime.devices.vulkan import load_vulkan, vulkan_devices, vulkan_problem
output, runtime, plugin = sys.argv[1:]
try:
    start_runtime(lambda: Path(runtime))
    load_vulkan(Path(plugin) if plugin else None)
    devices = [asdict(device) for device in vulkan_devices()]
    problem = None if devices else vulkan_problem()
except HandglassError as error:
    print(error, file=sys.stderr)
    raise SystemExit(error.exit_code)
Path(output).write_text(json.dumps({"devices": devices, "problem": problem}))
"""
LIST_SECONDS = 120.0
"""The library may have to be built first."""
ENDS = {
    "SIGSEGV": "a driver crashes when it is asked for its devices; VK_DRIVER_FILES names the ones "
    "to use, VK_LOADER_DEBUG=all tells which it is",
    "exit 124": "a driver hangs when it is asked for its devices; VK_DRIVER_FILES names the ones "
    "to use",
}
VARIABLES = ("VK_", "LD_LIBRARY_PATH", "LD_PRELOAD", "HANDGLASS_VULKAN_")
"""How those begin that decide which drivers and layers are loaded."""
MANIFESTS = ("/usr/share", "/usr/local/share", "/etc", "/etc/xdg", "~/.local/share", "~/.config")
"""Where the loader looks for vulkan/icd.d and the folders of layers beside it."""


def list_devices(runtime: Path, plugin: Path | None) -> tuple[list[VulkanDevice], str | None]:
    """The devices, and why there are none. DeviceError where the other process did not get there.

    `runtime` is TVM's, `plugin` our library, None where it is to be found.
    """
    with TemporaryDirectory(prefix="handglass-devices-") as folder:
        told = Path(folder, "devices.json")
        arguments = str(told), str(runtime), str(plugin or "")
        ended = run_isolated(LIST_DEVICES, *arguments, limit_s=LIST_SECONDS)
        if not told.exists():
            last = (ended.err.strip().splitlines() or [""])[-1]
            raise DeviceError(ENDS.get(ended.words, last or f"it ended with {ended.words}"))
        listed: dict[str, Any] = json.loads(told.read_text())
    devices = [VulkanDevice(**{**fields, "matrices": ()}) for fields in listed["devices"]]
    return devices, listed["problem"]


def check_listing(runtime: Path, plugin: Path | None) -> None:
    """Before this process asks, another one does, unless that went well before."""
    file = cache_folder("vulkan") / "listed" / f"{_drivers()}.json"
    if read_cached(file).get("ok") is not True:
        list_devices(runtime, plugin)
        write_cached(file, {"ok": True})


def _drivers() -> str:
    """A name that changes with what is installed and asked for."""
    asked = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    text = json.dumps([__version__, sorted(asked.items()), sorted(_manifests())])
    return hashlib.sha256(text.encode()).hexdigest()


def _manifests() -> Iterator[tuple[str, int, int]]:
    for folder in MANIFESTS:
        for path in Path(os.path.expanduser(folder), "vulkan").glob("*.d/*.json"):  # noqa: PTH111
            try:
                found = path.stat()
            except OSError:  # a link to nowhere
                continue
            yield str(path), found.st_mtime_ns, found.st_size
