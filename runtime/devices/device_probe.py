"""Lists the devices of this machine in a child process, because a driver may crash or hang when it
enumerates them.

A successful listing is cached until the installed drivers change.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from handglass import __version__
from handglass.errors import DeviceError

from ..system.isolated import TIMED_OUT, IsolatedRun, run_isolated
from ..system.scratch_file import scratch_file
from ..system.shared_library import SharedLibrary
from ..system.user_cache import cache_folder, read_cached, write_cached
from .device_info import DeviceInfo
from .driver import Driver, open_driver
from .kinds import DeviceKind

LIST_DEVICES = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from handglass.errors import HandglassError
from handglass.runtime.execution.tvm_runtime import start_runtime
from handglass.runtime.devices.driver import open_driver
from handglass.runtime.devices.kinds import DeviceKind
from handglass.runtime.system.shared_library import SharedLibrary
output, kind, runtime, *plugin = (json.loads(text) for text in sys.argv[1:])
library = lambda given: SharedLibrary(Path(given[0]), given[1])
try:
    start_runtime(lambda: library(runtime))
    driver = open_driver(DeviceKind(**kind))
    found, problem = driver.find(library(plugin[0]) if plugin else None)
    devices = [asdict(device) for device in found]
except HandglassError as error:
    print(error, file=sys.stderr)
    raise SystemExit(error.exit_code)
with open(output, "w", closefd=False) as file:
    file.write(json.dumps({"devices": devices, "problem": problem}))
"""
LIST_SECONDS = 120.0
"""Time limit; the listing may include building the plug-in."""


def list_devices(
    kind: DeviceKind, runtime: SharedLibrary, plugin: SharedLibrary | None
) -> tuple[list[DeviceInfo], str | None]:
    """The devices of a kind, and the reason if there are none.

    `runtime` is TVM's runtime library; `plugin` is the plug-in, or None to find or build it. Raises
    DeviceError if the child process fails.
    """
    with scratch_file() as output:
        libraries = [[str(one.path), one.sha256] for one in (runtime, plugin) if one]
        arguments = map(json.dumps, (output.fileno(), asdict(kind), *libraries))
        ended = run_isolated(
            LIST_DEVICES, *arguments, limit_s=LIST_SECONDS, keep=(output.fileno(),)
        )
        output.seek(0)
        text = output.read()
        if ended.code or not text:
            raise DeviceError(_reason(kind, ended))
        listed: dict[str, Any] = json.loads(text)
    return [DeviceInfo(**fields) for fields in listed["devices"]], listed["problem"]


def check_listing(kind: DeviceKind, runtime: SharedLibrary, plugin: SharedLibrary | None) -> None:
    """List the devices in a child process first, unless the cache has a successful listing."""
    file = cache_folder(kind.name) / "listed" / f"{_drivers(open_driver(kind))}.json"
    if read_cached(file).get("ok") is not True:
        list_devices(kind, runtime, plugin)
        write_cached(file, {"ok": True})


def _reason(kind: DeviceKind, ended: IsolatedRun) -> str:
    """Why the child process did not list the devices."""
    hints = open_driver(kind).hints
    if ended.words == "SIGSEGV":
        return f"a driver crashes when it lists its devices; {hints.crash}"
    if ended.code == TIMED_OUT:
        return f"a driver hangs when it lists its devices; {hints.hang}"
    last = (ended.err.strip().splitlines() or [""])[-1]
    return last or f"the process that lists devices ended with {ended.words}"


def _drivers(driver: Driver) -> str:
    """A cache key that changes with the installed drivers and the environment variables."""
    used = {name: value for name, value in os.environ.items() if name.startswith(driver.variables)}
    files = sorted(_states(driver.driver_files()))
    text = json.dumps([__version__, sorted(used.items()), files])
    return hashlib.sha256(text.encode()).hexdigest()


def _states(files: Iterator[Path]) -> Iterator[tuple[str, int, int]]:
    for path in files:
        try:
            state = path.stat()
        except OSError:  # a dangling link
            continue
        yield str(path), state.st_mtime_ns, state.st_size
