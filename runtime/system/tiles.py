"""Linux hands out AMX's tile registers only when asked: once per process, before the first use.

Without the permission the first tile instruction ends the process with SIGILL. Threads that exist
already have it too. Source: Linux, Documentation/arch/x86/xstate.rst.
"""

from __future__ import annotations

import ctypes
import os

from handglass.errors import DeviceError

from ..bundle.manifest import TargetEntry

FLAG = "amx_tile"
"""What a target's features hold when its code uses tiles."""
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18  # x86-64; ARCH_REQ_XCOMP_PERM; XTILEDATA

_allowed = False


def ask_for_tiles() -> int:
    """0 if this process may use tiles from now on, otherwise Linux's error number."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.argtypes, syscall.restype = [ctypes.c_long] * 3, ctypes.c_long
    return ctypes.get_errno() if syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) else 0


def allow_tiles(target: TargetEntry) -> None:
    """Ask on behalf of a bundle whose target has tiles; DeviceError if Linux refuses."""
    global _allowed
    if FLAG not in target.features or _allowed:
        return
    if error := ask_for_tiles():
        raise DeviceError(
            f"the bundle is compiled for {target.cpu} with AMX (target {target.name}); Linux does "
            f"not let this process use the tile registers ({os.strerror(error)}): it takes Linux "
            "5.16 and a machine, real or virtual, that has them; otherwise compile for x86-64-v4"
        )
    _allowed = True
