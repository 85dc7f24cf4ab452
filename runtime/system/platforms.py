"""The systems on which handglass runs: Linux. Elsewhere a verb is refused in words.

Windows lacks what the bundle format and the signals of the command line are built on (`fcntl`,
`SIGALRM`). macOS has both, but compiled libraries are ELF files for glibc, which it does not load.
"""

from __future__ import annotations

import sys

from handglass.errors import DeviceError

LINUX_ON = {
    "win32": "use WSL2 ('wsl --install', then install handglass inside it) or a Linux container",
    "darwin": "use a Linux container or a virtual machine (Docker, Lima, UTM)",
}
"""How to get a Linux on another system, by `sys.platform`."""
NAMES = {"win32": "Windows", "cygwin": "Cygwin", "darwin": "macOS"}
READING = ("doctor", "targets", "models", "inspect", "records list")
"""Verbs that only read, which macOS need not refuse; none of them was tried there."""


def check_platform(verb: str) -> None:
    """Raise DeviceError if this system is not Linux, unless it is macOS and the verb only reads."""
    system = sys.platform
    if system.startswith("linux") or (system == "darwin" and verb in READING):
        return
    instead = LINUX_ON.get(system, "use a Linux machine, a container or a virtual machine")
    reads = f"; here only {', '.join(READING)} may work" if system == "darwin" else ""
    raise DeviceError(
        f"{verb}: {NAMES.get(system, system)} can neither compile nor run a bundle, which holds "
        f"Linux libraries: {instead}{reads}"
    )
